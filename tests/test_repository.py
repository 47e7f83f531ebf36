"""What the repository promises about itself, apart from what the library does."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import destseg_lib

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "destseg_lib"
NOTEBOOKS = sorted(
    path for path in (ROOT / "book").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts
)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def committed() -> list[Path]:
    """Files that git tracks or would add; in an unpacked archive, whatever is not ignored there."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout, so which files are committed is not known")
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run make as from a shell, even when these tests were started by make."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


# The import rule: a part of the library imports only itself and what is listed for it.
METHOD = {
    "batches", "config", "corruption", "fusion", "losses", "metrics", "model", "resnet",
    "segmentation", "student", "teacher", "textures", "threshold", "training",
}  # fmt: skip
HELPERS = {"checks", "device", "errors", "files"}
TOP = METHOD | HELPERS
MAY_IMPORT = {
    **dict.fromkeys(TOP, TOP),
    "images": {"config", "errors", "files"},
    "drawn": {"config", "errors", "files"},
    "runs": TOP | {"images"},
    "evaluation": TOP | {"images", "runs"},
    "studies": TOP | {"images", "drawn", "runs", "evaluation"},
    "widgets": TOP | {"images", "drawn", "runs", "evaluation", "studies"},
    "cli": TOP | {"images", "drawn", "runs", "evaluation", "studies"},
}


def part_of(path: Path) -> str:
    """The part that a file of the library belongs to: a folder, or a module at the top."""
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def imported_names(path: Path) -> set[str]:
    """The dotted names that a file imports, at the top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            stem = ".".join(filter(None, ["destseg_lib" if node.level else "", node.module]))
            found |= {stem, *(f"{stem}.{alias.name}" for alias in node.names)}
    return found


def imported_parts(path: Path) -> set[str]:
    """The parts of the library that a file imports."""
    names = (name.split(".") for name in imported_names(path))
    return {name[1] for name in names if name[0] == "destseg_lib" and len(name) > 1} & set(
        MAY_IMPORT
    )


SOURCES = [path for path in sorted(LIBRARY.rglob("*.py")) if path != LIBRARY / "__init__.py"]


# The library's layout


def test_at_least_half_of_what_the_listing_shows_is_the_method():
    shown = {path.relative_to(LIBRARY).parts[0].removesuffix(".py") for path in committed()
             if path.is_relative_to(LIBRARY)}  # fmt: skip
    assert shown >= METHOD
    assert len(METHOD) >= len(shown) / 2, sorted(shown - METHOD)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_a_module_imports_only_what_the_rule_allows_and_is_short_enough_to_read(path):
    part = part_of(path)
    assert imported_parts(path) <= {part, *MAY_IMPORT[part]}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_imports_inside_functions_and_relative_ones_are_seen(tmp_path):
    file = tmp_path / "late.py"
    file.write_text("def f():\n    from .errors import X\n    import destseg_lib.cli.main\n")
    assert imported_parts(file) == {"errors", "cli"}


def test_the_map_names_every_method_module_and_every_folder():
    named = set(re.findall(r"\b(\w+)(?:\.py|/)", destseg_lib.__doc__ or ""))
    assert named == set(MAY_IMPORT)


def test_the_reference_and_the_options_of_every_command_are_up_to_date():
    command = [sys.executable, "tools/book/reference.py", "--check"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_answers_to_where_would_i_change_it_are_files_of_the_library():
    answers = re.findall(r"\? \| `([\w/]+\.py)` \|", text_of("CONTRIBUTING.md"))
    assert len(answers) == 10
    assert [name for name in answers if not (LIBRARY / name).is_file()] == []


# Commands


def test_documents_name_only_make_targets_that_exist():
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.M))
    for name in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"(?:`|^)make (?:PYTHON=\S+ )?([a-z]+)", text_of(name), re.M))
        assert named
        assert named <= targets, name


def test_the_readmes_example_runs_as_it_stands(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", text_of("README.md"), re.S)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ['PYTHONPATH']}"}
    command = [sys.executable, "-c", example]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    (picture,) = tmp_path.iterdir()
    assert np.ptp(np.asarray(Image.open(picture))) > 100


def test_make_refuses_an_old_python_and_says_what_to_do(tmp_path):
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text(text_of(name), encoding="utf-8")
    ran = make("install", f"PYTHON={old}", cwd=tmp_path)
    assert ran.returncode != 0
    assert "Python 3.11 to 3.14 is needed" in ran.stderr
    assert "PYTHON=python3.12" in ran.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_failing_stage_fails_make_test_and_is_named():
    ran = make("test", "STAGES=help no-such-stage types")
    assert ran.returncode != 0
    split = ran.stdout.partition("== time by stage")[2]
    assert re.search(r"\d+ s  help\n *\d+ s  no-such-stage\n *\^ failed", split)
    assert "types" not in split


# What is committed

ELSEWHERE = {
    "a path of one machine": r"(?<![\w.:/-])/(?:work|root|home|Users)/\w",
    "a package registry's host": (
        r"pypi[.]org|pythonhosted[.]org|registry[.]npmjs|deb[.]debian[.]org|conda[.]anaconda[.]org"
    ),
}


@pytest.mark.parametrize("what", ELSEWHERE)
def test_no_file_names(what):
    pattern = re.compile(ELSEWHERE[what])
    guilty = []
    for path in committed():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        guilty += [f"{path.relative_to(ROOT)}: {hit[0]}" for hit in pattern.finditer(text)]
    assert guilty == []


def test_the_search_for_foreign_paths_and_hosts_finds_them():
    path, host = ELSEWHERE.values()
    assert re.search(path, "see /" + "home/ann/data")
    assert not re.search(path, "results/home/ann and https://example.com/" + "home/page")
    assert re.search(host, "--index-url " + "https://" + "pypi" + ".org/simple")


def test_no_weights_archives_or_large_files_are_committed():
    shipped = LIBRARY / "weights"  # with limits of their own, in the tests of what is shipped
    for path in committed():
        assert path.suffix not in {".pt", ".pth", ".ckpt", ".xz", ".gz", ".zip"}, path
        if path.parent != shipped:
            assert path.suffix != ".safetensors", path
            assert path.stat().st_size < 2**20, f"{path} is larger than 1 MiB"


def test_constraints_are_names_and_versions_only():
    lines = [line for line in text_of("constraints.txt").splitlines() if not line.startswith("#")]
    assert len(lines) == len({re.sub(r"[-_.]+", "-", line).lower() for line in lines}) > 50
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9][\w.-]*==[0-9][\w.]*", line), line
        assert not line.startswith(("nvidia", "cuda", "triton")), line


def normalised(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")


def test_every_direct_dependency_is_pinned():
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["test"], *extras["book"], *extras["teach"]]
    pinned = {normalised(line) for line in text_of("constraints.txt").splitlines()}
    assert {normalised(want) for want in wanted} <= pinned


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads(text_of("pyproject.toml"))["project"]["version"]
    assert destseg_lib.__version__ == version
    assert yaml.safe_load(text_of("CITATION.cff"))["version"] == version
    assert f"## {version}" in text_of("CHANGELOG.md")


def imported_packages(paths: list[Path]) -> set[str]:
    """The distributions that files import, apart from Python's and the project's own modules."""
    own = {"destseg_lib", "tools", "tests", "google", *sys.stdlib_module_names}  # google: Colab's
    own |= {path.stem for path in committed() if path.suffix == ".py"}
    names = {name.split(".")[0] for path in paths for name in imported_names(path)} - own
    known = packages_distributions()
    return {normalised(known.get(name, [name])[0]) for name in names}


def test_every_import_is_declared():
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    extras = {name: set(map(normalised, e)) for name, e in project["optional-dependencies"].items()}
    library = set(map(normalised, project["dependencies"])).union(
        *(
            extras[name]
            for name in ("export", "interactive", "openvino", "page", "ray", "tensorboard")
        )
    )
    assert imported_packages(SOURCES) <= library
    scripts = [path for path in committed() if path.suffix == ".py"]
    assert imported_packages(scripts) <= library | extras["test"] | extras["book"] | extras["teach"]


# Notebooks and book


def test_the_table_of_contents_and_the_notebooks_agree():
    toc = yaml.safe_load(text_of("_toc.yml"))
    listed = set(re.findall(r"'(?:file|root)': '([^']+)'", str(toc)))
    present = {path.relative_to(ROOT).with_suffix("").as_posix() for path in NOTEBOOKS}
    assert present <= listed
    for page in listed:
        assert any((ROOT / f"{page}{suffix}").is_file() for suffix in (".md", ".ipynb")), page


def test_a_book_that_lacks_a_page_or_holds_a_failed_cell_is_refused(tmp_path):
    html = tmp_path / "_build" / "html"
    for name in ("tools/book", "_build/html/book", "_build/html/reports"):
        (tmp_path / name).mkdir(parents=True)
    script = tmp_path / "tools" / "book" / "check_book.py"
    script.write_text(text_of("tools/book/check_book.py"), encoding="utf-8")
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nparts:\n- chapters:\n  - file: book/one.ipynb\n"
    )

    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)

    (html / "book" / "index.html").touch()
    refused = check()
    assert refused.returncode == 1
    assert refused.stderr == "book/one is in _toc.yml but was not built.\n"

    (html / "book" / "one.html").touch()
    assert (check().returncode, check().stderr) == (0, "")

    (html / "book" / "two.html").touch()
    assert check().stderr == "book/two was built but is not in _toc.yml.\n"
    (html / "book" / "two.html").unlink()

    page = '<a href="https://a.example">read</a><script src="../one.js"></script>'
    (html / "book" / "one.html").write_text(page, encoding="utf-8")
    assert check().stderr == ""
    for foreign in (
        '<script src="//b.example/x.js"></script>',
        '<link rel="stylesheet" href="https://b.example/x.css">',
        '<img src="a.png" srcset="https://b.example/x.png 2x">',
    ):
        (html / "book" / "one.html").write_text(page + foreign, encoding="utf-8")
        assert "b.example" in check().stderr
        assert "from another host" in check().stderr
    for name, refused in (("README.md", True), ("a.example", False)):
        link = f'<a href="http://{name}">{name}</a>'
        (html / "book" / "one.html").write_text(page + link, encoding="utf-8")
        assert (f"a link of the file name {name};" in check().stderr) is refused
    (html / "book" / "one.html").write_text(page, encoding="utf-8")

    run = tmp_path / "_build" / "executed" / "book" / "one.ipynb"
    run.parent.mkdir(parents=True)

    def writes_to_stderr(*text: str) -> str:
        output = {"output_type": "stream", "name": "stderr", "text": text}
        run.write_text(json.dumps({"cells": [{"cell_type": "code", "outputs": [output]}]}))
        return check().stderr

    bars = (
        "\r  0%|          | 0/4 [00:00<?, ?it/s]\rtiles: 100%|####| 4/4 [00:02<00:00, 1.9it/s]\n",
        "drawing: 3it [00:01, 2.10it/s]\n",
    )
    assert writes_to_stderr(*bars) == ""
    assert "one warns, unseen: x.py:3: UserWarning: odd" in writes_to_stderr(
        *bars, "x.py:3: UserWarning: odd\n"
    )
    run.unlink()

    (html / "reports" / "one.err.log").touch()
    refused = check()
    assert refused.returncode == 1
    assert "A cell failed" in refused.stderr
