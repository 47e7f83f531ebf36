"""Each assignment: what the solution, an untouched copy, wrong answers and the library's get."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import assignment as assignment_module
import pytest
import write
from assignment import NAMES, SOURCES, make_assignment, read_secret
from enforcement import enforced
from handout import BOOK, build_handout, leave_out_pages, leave_out_solutions, write_handout
from judge import LARGEST, judge_notebook, read_assignment
from notebooks import committed_text, stamp
from otter.test_files.ok_test import OKTestFile
from sandbox import Limits
from study_folder import POINTS
from write import write_assignments

from destseg_lib.errors import DeSTSegError

pytestmark = pytest.mark.slow

SECRET = b"the secret of these tests"
CODED = NAMES[:-1]  # those with functions to write

# What somebody gets wrong, as a change of the solution, and the hidden tests that then fail, by the
# beginning of their names. An empty first entry appends.
WRONG = {
    "perlin": [
        ("", "def ease(t): return 3 * t**2 - 2 * t**3", ("ease", "noise")),  # it is built on it
        ("x = columns * np", "x = rows * np", ("noise, different",)),
        ("count = int(", "count = 1 + int(", ("damage",)),
        ("", "full = blend\ndef blend(i, t, m, o): return full(i, t, m, 1.0)", ("blend, partial",)),
    ],
    "cosine": [
        ("weight * hard", "hard", ("loss",)),
        ("weight * hard", "weight * d", ("loss, a batch",)),  # one position: the hard ones are all
        ("below + dot * length_t * s / (length_s * below**2)", "below", ("gradient",)),
        ("", "def distance(s, t): return 1 - (s * t).sum(1)", ("distance", "loss")),
    ],
    "levels": [
        ("", "def overgeneralised(n, d): return np.mean(d <= np.quantile(n, 0.5))",
         ("overgeneralised",)),
        ("drawn[:, 1:-1].mean", "drawn.mean", ("interval",)),
        ("", "def verdict(low, high): return int(low > 0) - int(high < 0)",
         ("verdict, a difference",)),
        ("", "def choose(table): return int(np.argmax(np.mean(table, axis=1)))", ("choose",)),
    ],
    "fusion": [
        ("np.prod(np.maximum(distances, FLOOR)", "np.prod(np.asarray(distances)",
         ("product, a level", "gain, one level")),
        ("np.prod(np.maximum(distances, FLOOR) ** EXPONENTS", "np.prod(distances",
         ("product", "gain")),
        ("np.where(np.asarray(labels) == 1, WEIGHT, 1.0)", "np.ones(len(labels))",
         ("fit", "gain")),
        ("flagged = scores >= threshold", "flagged = scores > threshold - 0.15",
         ("average_precision", "gain")),
    ],
    "metrics": [
        ("(weights * shares).sum() / weights.sum()", "shares.mean()",
         ("aupro, regions", "aupro, tied")),  # one region: the same
        ("count = sum(flagged[p].mean() >", "count = sum(flagged[p].any() >", ("iap",)),
        ("", "def flattered(a, n, extra): return (a * n + extra) / (n + extra)", ("flattered",)),
        ("", "def pixels_needed(a, n, target): return n * (target - a)", ("pixels_needed",)),
    ],
}  # fmt: skip

# The library's functions, made to fit, and what is left when nothing else is written.
LIBRARY = {
    "perlin": """
import torch
from destseg_lib import corruption
def ease(t):
    return corruption.fade(torch.as_tensor(t))
def noise(turns, size):
    cells = torch.tensor([[turns.shape[0] - 1, turns.shape[1] - 1]])
    angles = torch.zeros(1, max(turns.shape) + 1, max(turns.shape) + 1)
    angles[0, : turns.shape[0], : turns.shape[1]] = 2 * torch.pi * torch.as_tensor(turns)
    return corruption.perlin_noise(cells, angles, size)[0]
def damage(values):
    return values > 0.5
def blend(image, texture, mask, opacity):
    image, texture = (torch.as_tensor(x).permute(2, 0, 1)[None] for x in (image, texture))
    mask, opacity = torch.as_tensor(mask)[None, None], torch.tensor([opacity])
    return corruption.blend(image, texture, mask, opacity)[0].permute(1, 2, 0)
""",
    "cosine": """
import torch
from destseg_lib import losses
def distance(student, teacher):
    return losses.cosine_distance(torch.as_tensor(student), torch.as_tensor(teacher))
def loss(students, teachers):
    return losses.feature_loss(*(tuple(map(torch.as_tensor, x)) for x in (students, teachers)))
def gradient(student, teacher):
    s = torch.as_tensor(student).requires_grad_()
    losses.cosine_distance(s, torch.as_tensor(teacher)).sum().backward()
    return s.grad
""",
    "levels": """
from destseg_lib.studies.compare import bootstrap
def interval(differences, resamples):
    found = bootstrap(differences)
    return found.low, found.high
""",
    "fusion": """
import torch
def product(distances):
    return torch.as_tensor(distances).prod(1)
""",
    "metrics": """
import numpy as np
from destseg_lib import metrics
def regions(masks):
    numbered, count = metrics.label_regions(np.asarray(masks) > 0)
    return np.sort(np.bincount(numbered.ravel())[1:])
def aupro(maps, masks):
    return metrics.aupro(metrics.sort_pixels(maps, masks))
def iap(maps, masks):
    return metrics.iap(metrics.sort_pixels(maps, masks))
""",
}


@pytest.fixture(scope="module")
def assigned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("assigned")
    write_assignments(SECRET, out)
    return out


@pytest.fixture(scope="module")
def confined() -> bool:
    """Elsewhere than on Linux these tests judge answers without a sandbox."""
    return all(enforced().values())


def points(assigned: Path, name: str, path: Path, confined: bool, student="1/Ann") -> float:
    assignment = read_assignment(assigned / "grader" / f"{name}.json")
    mark = judge_notebook(assignment, student, path, Limits(), confined=confined)
    assert mark.seconds < 15
    return mark.points


def hidden_tests(assigned: Path, name: str) -> dict[str, int]:
    """The points of each hidden test, by its name: an instructor may change them."""
    assignment = read_assignment(assigned / "grader" / f"{name}.json")
    return {f"{part.question}, {part.what}": part.points for part in assignment.parts("1/Ann")}


def all_points(assigned: Path, name: str) -> int:
    return sum(hidden_tests(assigned, name).values())


def changed(path: Path, old: str, new: str, out: Path) -> Path:
    """A copy of a notebook with one change; an empty ``old`` appends a cell."""
    notebook = json.loads(path.read_text())
    if old:
        (cell,) = (c for c in notebook["cells"] if old in "".join(c["source"]))
        cell["source"] = "".join(cell["source"]).replace(old, new)
    else:
        notebook["cells"].append({"cell_type": "code", "source": new})
    out.write_text(json.dumps(notebook))
    return out


@pytest.mark.parametrize("name", CODED)
def test_the_solution_gets_full_marks_and_an_untouched_copy_none(assigned, confined, name):
    notebook, whole = f"{name}.ipynb", all_points(assigned, name)
    assert points(assigned, name, assigned / "solutions" / notebook, confined) == whole
    assert points(assigned, name, assigned / "solutions" / notebook, confined, "2/Bob") == whole
    assert points(assigned, name, assigned / "students" / notebook, confined) == 0


@pytest.mark.parametrize(
    ("name", "old", "new", "fails"),
    [(name, *wrong) for name, all_wrong in WRONG.items() for wrong in all_wrong],
)
def test_a_wrong_answer_loses_its_points_and_no_others(
    assigned, confined, tmp_path, name, old, new, fails
):
    solution = assigned / "solutions" / f"{name}.ipynb"
    wrong = changed(solution, old, new, tmp_path / "wrong.ipynb")
    tests = hidden_tests(assigned, name)
    left = sum(worth for test, worth in tests.items() if not test.startswith(fails))
    assert points(assigned, name, wrong, confined) == left < all_points(assigned, name)


@pytest.mark.parametrize("name", CODED)
def test_the_librarys_answers_are_wrong(assigned, confined, tmp_path, name):
    student = assigned / "students" / f"{name}.ipynb"
    with_library = changed(student, "", LIBRARY[name], tmp_path / "library.ipynb")
    # Of a single region the library may by chance find the same IAP.
    by_chance = hidden_tests(assigned, name).get("iap, one region", 0)
    assert points(assigned, name, with_library, confined) <= by_chance


@pytest.mark.parametrize("name", CODED)
def test_another_secrets_solution_loses_at_least_half(assigned, confined, tmp_path, name):
    write_assignments(b"the secret of another class", tmp_path, (name,))
    other = tmp_path / "solutions" / f"{name}.ipynb"
    assert points(assigned, name, other, confined) <= all_points(assigned, name) / 2


def test_the_same_secret_gives_the_same_bytes_and_another_does_not(assigned, tmp_path):
    write_assignments(SECRET, tmp_path / "again")
    files = [path.relative_to(assigned) for path in sorted(assigned.rglob("*.*"))]
    assert len(files) == 3 * len(NAMES) + 2
    for file in files:
        assert (assigned / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file
    write_assignments(b"the secret of another class", tmp_path / "other")
    for name in NAMES:
        other = tmp_path / "other" / "students" / f"{name}.ipynb"
        assert other.read_bytes() != (assigned / "students" / f"{name}.ipynb").read_bytes()


@pytest.mark.parametrize("name", CODED)
def test_public_tests_pass_with_the_solution_and_fail_on_an_untouched_copy(
    assigned, tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    student = json.loads((assigned / "students" / f"{name}.ipynb").read_text())
    exec("".join(student["cells"][0]["source"]), {})
    assignment = read_assignment(assigned / "grader" / f"{name}.json")
    solution = next(iter(assignment.solution().values())).__globals__
    tests = [OKTestFile.from_file(str(path)) for path in sorted(Path("tests").glob("*.py"))]
    assert {test.name for test in tests} == set(assignment.solution())
    for test in tests:
        test.run(dict(solution))
        assert test.passed_all, test.summary()
        untouched = {**solution, **dict.fromkeys(assignment.solution(), lambda *_: None)}
        test.run(untouched)
        assert not test.passed_all


def test_nothing_that_is_handed_out_holds_a_solution_or_the_key(assigned):
    for name in CODED:
        text = (assigned / "students" / f"{name}.ipynb").read_text()
        key = json.loads((assigned / "grader" / f"{name}.json").read_text())["key"]
        assert key not in text
        assert "SOLUTION" not in text
        assert SECRET.decode() not in text + (assigned / "grader" / f"{name}.json").read_text()


def test_a_notebook_says_of_which_set_it_is_and_not_with_which_key(assigned):
    for name in NAMES:
        assignment = make_assignment(name, SECRET)
        for kind in ("students", "solutions"):
            notebook = json.loads((assigned / kind / f"{name}.ipynb").read_text())
            assert notebook["metadata"]["destseg"] == {"assignment": name, "made": assignment.made}
        assert assignment.made != make_assignment(name, b"the secret of another class").made
        assert assignment.made not in assignment.key.hex()


def test_an_ablation_begins_as_a_chapter_does_and_tests_nothing(assigned):
    cells = json.loads((assigned / "students" / "ablation.ipynb").read_text())["cells"]
    text = ["".join(cell["source"]) for cell in cells]
    assert "pip" in text[0] and "destseg_lib" in text[0]
    assert "otter" not in "".join(text)
    assert "autograder" not in "".join(text)


def test_points_are_those_that_were_handed_out(assigned, tmp_path, monkeypatch):
    before = hidden_tests(assigned, "metrics")
    corner = "regions, regions that touch at a corner"
    text, changes = re.subn(r'corner", \d+', 'corner", 50', (SOURCES / "metrics.py").read_text())
    assert changes == 1
    monkeypatch.setattr(assignment_module, "SOURCES", tmp_path)
    (tmp_path / "metrics.py").write_text(text)
    (tmp_path / "metrics.md").write_text((SOURCES / "metrics.md").read_text())
    assert hidden_tests(assigned, "metrics") == before
    newly_made = make_assignment("metrics", SECRET)
    total = sum(part.points for part in newly_made.parts("1/Ann"))
    assert total == all_points(assigned, "metrics") - before[corner] + 50
    assert f"{total} points." in newly_made.cells[0].source


@pytest.mark.parametrize("name", CODED)
def test_the_text_names_the_points_of_the_hidden_tests(name):
    assignment = make_assignment(name, SECRET)
    text = "\n".join(cell.source for cell in assignment.cells if cell.kind == "text")
    headings = re.findall(r"^## .*?\((\d+ point.*)\)$", text, re.M)
    assert all(re.fullmatch(r"\d+ points?( \+ \d+ points?)*", words) for words in headings)
    whole = sum(int(number) for words in headings for number in re.findall(r"\d+", words))
    assert whole == sum(part.points for part in assignment.parts("1/Ann"))
    assert not re.search(r"\b1 points", text)


def test_two_students_have_other_inputs():
    assignment = make_assignment("perlin", SECRET)
    first, again, other = (assignment.parts(who)[0].calls[0][0] for who in ("a", "a", "b"))
    assert (first == again).all()
    assert (first != other).all()


def test_the_guide_states_the_limits_and_the_points_that_are_in_force():
    guide, limits = (BOOK / "instructor.md").read_text(encoding="utf-8"), Limits()
    gib, mib = 2**30, 2**20
    for words in (
        f"{limits.processes} processes and threads", f"{limits.memory / gib:g} GiB for all",
        f"{limits.file // mib} MiB for each", f"{limits.space // mib} MiB for all of them",
        f"{limits.seconds:g} seconds; then it is ended", f"{LARGEST // mib} MiB. Hand in",
    ):  # fmt: skip
        assert words in " ".join(guide.replace("\n>", "\n").split()), words
    assert f"{10 * len(CODED) + sum(POINTS.values())} for all six" in guide


def test_a_secret_must_be_one(tmp_path):
    (tmp_path / "short").write_text("1234\n")
    with pytest.raises(DeSTSegError, match="a secret has 16 or more"):
        read_secret(tmp_path / "short")
    with pytest.raises(DeSTSegError, match=r"absent is no file\. Name the file of your secret"):
        read_secret(tmp_path / "absent")


def test_other_peoples_files_are_not_written_over(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(DeSTSegError, match="holds other files"):
        write_assignments(SECRET, tmp_path, ("perlin",))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(DeSTSegError, match=r"thesis\.tex is no folder"):
        write_assignments(SECRET, tmp_path / "thesis.tex", ("perlin",))


def test_solutions_and_the_grader_are_for_their_owner_alone(assigned):
    modes = {path.name: path.stat().st_mode & 0o777 for path in assigned.iterdir()}
    assert (modes["solutions"], modes["grader"]) == (0o700, 0o700)


@pytest.mark.parametrize(("mode", "others"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_secret_that_others_can_read_is_said_with_the_remedy(
    tmp_path, monkeypatch, capsys, mode, others
):
    secret = tmp_path / "my secret"
    secret.write_bytes(SECRET)
    secret.chmod(mode)
    monkeypatch.setattr(write, "write_assignments", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["write.py", "--secret", str(secret)])
    write.main()
    assert (f"chmod 600 '{secret}'" in capsys.readouterr().err) == others


def test_chapters_are_handed_out_without_solutions_unless_they_are_kept(tmp_path):
    removed = write_handout(tmp_path, ["02_measuring", "11_your_photographs"])
    all_removed = write_handout(tmp_path / "all", [])
    assert removed > 10
    # Two of these are words in the exercise's own cell.
    assert all_removed - removed == solutions_in(BOOK / "02_measuring.ipynb") + solutions_in(
        BOOK / "11_your_photographs.ipynb"
    )
    assert solutions_in(BOOK / "11_your_photographs.ipynb") >= 4
    for path in sorted(BOOK.glob("*.ipynb")):
        kept = path.stem in ("02_measuring", "11_your_photographs")
        assert bool(solutions_in(tmp_path / path.name)) == kept
        assert solutions_in(tmp_path / "all" / path.name) == 0


@pytest.mark.parametrize("path", sorted(BOOK.glob("*.ipynb")), ids=lambda path: path.stem)
def test_nothing_in_a_chapter_that_is_handed_out_is_marked_as_a_solution(tmp_path, path):
    write_handout(tmp_path, [])
    for cell in json.loads((tmp_path / path.name).read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        assert "solution" not in cell["metadata"].get("tags", []), cell["id"]
        assert not source.startswith("# @title Solution"), cell["id"]
        # What the chapters fold in their words are solutions, whatever the line above says.
        assert cell["cell_type"] == "code" or "<details" not in source, cell["id"]


@pytest.mark.parametrize(
    "fold",
    [
        "<details><summary>Solution</summary>\n\nBecause.\n\n</details>",
        '<details class="wide">\n<summary><b>A solution</b> to both</summary>Because.</details>',
        "<details><summary>Our answer</summary>Because.</details>\n\nIn between.\n\n"
        "<details><summary>ANSWER</summary>Because.</details>",
    ],
)
def test_solutions_in_words_are_left_out_however_they_are_folded(fold):
    source = f"**1. Why?**\n\n{fold}\n\n**2. How?**".splitlines(keepends=True)
    notebook = {"cells": [{"cell_type": "markdown", "metadata": {}, "source": source}]}
    assert leave_out_solutions(notebook) == fold.count("<details")
    left = "".join(notebook["cells"][0]["source"])
    assert "Because" not in left and "<" not in left
    assert left.startswith("**1. Why?**\n\n") and left.endswith("\n\n**2. How?**")
    assert ("In between." in left) == ("In between." in fold)


def solutions_in(path: Path) -> int:
    """Cells that are solutions, and solutions in words."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    tagged = [cell for cell in cells if "solution" in cell["metadata"].get("tags", [])]
    words = "".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return (
        len(tagged)
        + words.count("<summary>Answer</summary>")
        + words.count("<summary>Solution</summary>")
    )


def test_a_link_to_the_published_chapter_is_not_handed_out(tmp_path):
    (tmp_path / "book").mkdir()
    for name in ("_config.yml", "pyproject.toml"):
        shutil.copy(BOOK.parent / name, tmp_path / name)
    stamp("ada/destseg", "main", tmp_path)
    chapter = tmp_path / "book" / "02_measuring.ipynb"
    shutil.copy(BOOK / chapter.name, chapter)
    chapter.write_text(committed_text(chapter, tmp_path), encoding="utf-8")
    assert "colab.research.google.com" in chapter.read_text()
    for keep in ([], [chapter.stem]):
        write_handout(tmp_path / "out", keep, tmp_path / "book")
        assert "colab.research.google.com" not in (tmp_path / "out" / chapter.name).read_text()


def test_pages_for_instructors_are_not_handed_out(tmp_path):
    shutil.copytree(BOOK, tmp_path / "book", ignore=shutil.ignore_patterns("*.ipynb", "static"))
    source = ["See [the guide](instructor.md#slides) and [chapter 2](02_measuring.ipynb)."]
    cells = [{"cell_type": "markdown", "metadata": {}, "source": source}]
    notebook = tmp_path / "book" / "one.ipynb"
    notebook.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    leave_out_pages(tmp_path / "book", BOOK.parent / "_toc.yml", tmp_path / "_toc.yml")
    contents = (tmp_path / "_toc.yml").read_text()
    assert "book/notation" in contents
    for name in ("instructor", "questions"):
        assert name not in contents
        assert not (tmp_path / "book" / f"{name}.md").exists()
        for page in tmp_path.rglob("*.md"):
            assert f"({name}.md" not in page.read_text(encoding="utf-8"), page
    assert json.loads(notebook.read_text())["cells"][0]["source"] == [
        "See the guide and [chapter 2](02_measuring.ipynb)."
    ]
    for page in tmp_path.rglob("*.md"):
        assert "<details" not in page.read_text(encoding="utf-8"), page
    assert "The instructor's guide has" in (tmp_path / "book" / "how_to_use.md").read_text()
    with pytest.raises(DeSTSegError, match="no chapter '2'"):
        write_handout(tmp_path, ["2"])


def test_pages_are_not_handed_out_before_the_book_was_built(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "01_a.ipynb").touch()
    with pytest.raises(DeSTSegError, match=r"has no 01_a\.ipynb; run 'make book' first"):
        build_handout(tmp_path / "out", [], tmp_path)
