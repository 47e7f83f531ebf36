"""What the repository promises about itself, apart from what the library does."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import destseg_lib

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "destseg_lib"
NOTEBOOKS = sorted(
    path for path in (ROOT / "book").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts
)
TARGETS = {
    "help", "install", "vendor", "lint", "format", "types", "unit", "notebooks", "test", "book",
    "page", "browser", "links", "colab", "bench", "gpu", "constraints",
    "clean",
}  # fmt: skip


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


def declared_order() -> list[str]:
    section = re.search(r"^### Order\n(.*?)^(?=\S*#|What)", text_of("CONTRIBUTING.md"), re.M | re.S)
    assert section, "CONTRIBUTING.md has lost its list of modules"
    return re.findall(r"^\d+\. `(\w+)`:", section[1], re.M)


def modules() -> list[str]:
    """The library's modules, and its sub-packages as one each."""
    files = (p.stem for p in LIBRARY.glob("*.py") if not p.stem.startswith("__"))
    return sorted([*files, *(p.parent.name for p in LIBRARY.glob("*/__init__.py"))])


def files_of(module: str) -> list[Path]:
    file = LIBRARY / f"{module}.py"
    return [file] if file.exists() else sorted((LIBRARY / module).glob("*.py"))


def imported_modules(path: Path) -> set[str]:
    """The library's modules that a file imports, at the top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "destseg_lib" if node.level else ""
            stem = ".".join(filter(None, [base, node.module]))
            names = [stem, *(f"{stem}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {n.split(".")[1] for n in names if n.startswith("destseg_lib.")}
    return found & set(modules())


# The library's layout


def test_every_module_stands_in_the_declared_order_and_none_besides():
    assert sorted(declared_order()) == modules()


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_earlier_ones(module):
    order = declared_order()
    own = {module} if (LIBRARY / module).is_dir() else set()
    for file in files_of(module):
        assert imported_modules(file) <= {*order[: order.index(module)], *own}, file.name


def test_imports_inside_functions_and_relative_ones_are_seen(tmp_path):
    file = tmp_path / "late.py"
    file.write_text(
        "def f():\n    from .errors import DeSTSegError\n    import destseg_lib.config\n"
    )
    assert imported_modules(file) == {"errors", "config"}


@pytest.mark.parametrize("module", modules())
def test_a_module_is_short_enough_to_read(module):
    for file in files_of(module):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 300, file.name


def test_the_reference_shows_every_module():
    listed = re.findall(r"^   destseg_lib\.(\w+)$", text_of("book/api.md"), re.M)
    assert sorted(listed) == modules()
    toc = re.findall(r"book/api/\w+", text_of("_toc.yml"))
    shown = [
        module
        for page in toc
        for module in re.findall(r"automodule:: destseg_lib\.(\w+)", text_of(f"{page}.md"))
    ]
    assert shown == listed, "the index and the pages show other modules or another order"


# Commands


def test_readme_names_every_command_and_no_other():
    program = "from destseg_lib.cli import main; main()"
    help_text = subprocess.run(
        [sys.executable, "-c", program, "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    commands = set(re.findall(r"^    ([a-z][a-z-]*)(?: {2,}\S|$)", help_text, re.M))
    assert commands >= {"train", "evaluate", "predict", "make-data", "download"}
    assert commands == set(re.findall(r"\bdestseg ([a-z][a-z-]+)\b", text_of("README.md")))


def test_make_help_lists_every_target():
    described = dict(re.findall(r"^  make (\w+) +(\S.*)$", make("help").stdout, re.M))
    assert set(described) == TARGETS
    phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", text_of("Makefile"), re.M)
    assert phony
    assert set(phony[1].replace("\\", "").split()) == TARGETS


def test_documents_name_only_targets_that_exist():
    for name in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"(?:`|^)make (?:PYTHON=\S+ )?([a-z]+)", text_of(name), re.M))
        assert named
        assert named <= TARGETS, name


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


def test_every_direct_dependency_is_pinned():
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["test"], *extras["book"]]
    names = {re.split(r"[^\w.-]", want)[0].lower().replace("_", "-") for want in wanted}
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in text_of("constraints.txt").splitlines()
    }
    assert names - pinned == set()


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads(text_of("pyproject.toml"))["project"]["version"]
    assert destseg_lib.__version__ == version
    assert yaml.safe_load(text_of("CITATION.cff"))["version"] == version
    assert f"## {version}" in text_of("CHANGELOG.md")


def test_readme_keeps_a_place_for_results():
    readme = text_of("README.md")
    assert readme.count("<!-- results:begin -->") == readme.count("<!-- results:end -->") == 1
    assert readme.index("results:begin") < readme.index("results:end")


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
    for name in ("tools", "_build/html/book", "_build/html/reports"):
        (tmp_path / name).mkdir(parents=True)
    script = tmp_path / "tools" / "check_book.py"
    script.write_text(text_of("tools/check_book.py"), encoding="utf-8")
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nparts:\n- chapters:\n  - file: book/one.ipynb\n"
    )

    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)

    (html / "book" / "index.html").touch()
    refused = check()
    assert refused.returncode == 1
    assert refused.stderr == "book/one stands in _toc.yml but was not built.\n"

    (html / "book" / "one.html").touch()
    assert (check().returncode, check().stderr) == (0, "")

    (html / "book" / "two.html").touch()
    assert check().stderr == "book/two was built but does not stand in _toc.yml.\n"
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

    run = tmp_path / "_build" / "jupyter_execute" / "book" / "one.ipynb"
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
