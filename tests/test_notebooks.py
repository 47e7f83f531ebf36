"""The notebooks are fit to be committed, the tool notices every kind of mess, and the first cell of
each works where nothing is installed, as on Colab.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import notebooks
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
SITE = Path(torch.__file__).resolve().parent.parent


def python_runs(
    python: Path | str, *arguments: object, **options: object
) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, *arguments], capture_output=True, text=True, **options)


def tool(*arguments: object, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return python_runs(sys.executable, root / "tools" / "book" / "notebooks.py", *arguments)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one notebook in the form that is committed."""
    root = tmp_path / "project"
    shutil.copytree(ROOT / "tools" / "book", root / "tools" / "book")
    for name in ("_config.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    notebooks.stamp("", "main", root)
    (root / "book").mkdir()
    cells = [
        {"cell_type": "markdown", "id": "title", "metadata": {}, "source": ["# One\n"]},
        {
            "cell_type": "code", "id": "checked", "metadata": {"tags": ["nbval-check-output"]},
            "execution_count": None, "source": ["print(1)"],
            "outputs": [{"output_type": "stream", "name": "stdout", "text": ["1\n"]}],
        },
        {
            "cell_type": "code", "id": "try", "metadata": {"tags": ["solution"]},
            "execution_count": None, "source": ["x = 2"], "outputs": [],
        },
    ]  # fmt: skip
    save(root, {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    assert bring_into_form(root) == []
    return root


def load(root: Path) -> dict:
    return json.loads((root / "book" / "one.ipynb").read_text(encoding="utf-8"))


def save(root: Path, notebook: dict) -> None:
    (root / "book" / "one.ipynb").write_text(json.dumps(notebook, indent=1), encoding="utf-8")


def bring_into_form(root: Path) -> list[str]:
    """What is wrong after the tool has written the notebook."""
    path = root / "book" / "one.ipynb"
    path.write_text(notebooks.committed_text(path, root), encoding="utf-8")
    return notebooks.differences(path, root)


def cell(notebook: dict, name: str) -> dict:
    return next(cell for cell in notebook["cells"] if cell["id"] == name)


def test_the_committed_notebooks_are_as_the_tool_leaves_them():
    done = tool("--check")
    assert done.returncode == 0, done.stderr


def output(**values: object) -> list[dict]:
    return [values]


@pytest.mark.parametrize(
    ("name", "part", "mess", "message"),
    [
        ("checked", "id", "1a2b3c4d", "'id' is not as generated"),
        ("checked", "execution_count", 7, "'execution_count' is not as generated"),
        ("setup", "source", ["print('mine')"], "'source' is not as generated"),
        ("try", "metadata", {"ExecuteTime": {"start": "today"}}, "'metadata' is not as generated"),
        ("try", "metadata", {"tags": ["solution"]}, "'metadata' is not as generated"),
        (
            "try", "outputs",
            output(output_type="display_data", data={"image/png": "AAAA"}, metadata={}),
            "'outputs' is not as generated",
        ),
        (
            "try", "outputs", output(output_type="stream", name="stdout", text=["took 0.3 s"]),
            "'outputs' is not as generated",
        ),
        (
            "try", "outputs", output(output_type="error", ename="E", evalue="", traceback=[]),
            "it failed when it was last run",
        ),
    ],
)  # fmt: skip
def test_every_kind_of_mess_is_noticed_and_put_right(project, name, part, mess, message):
    notebook = load(project)
    cell(notebook, name)[part] = mess
    save(project, notebook)
    found = "\n".join(notebooks.differences(project / "book" / "one.ipynb", project))
    assert message in found and "one.ipynb, cell" in found
    assert bring_into_form(project) == []


def test_what_belongs_to_no_cell_is_noticed_and_a_command_says_how_to_put_it_right(project):
    notebook = load(project)
    notebook["metadata"]["widgets"] = {"state": {}}
    save(project, notebook)
    refused = tool("--check", root=project)
    assert refused.returncode == 1
    assert "one.ipynb: its cells or its metadata are not as generated" in refused.stderr
    assert "python tools/book/notebooks.py" in refused.stderr
    assert tool(root=project).returncode == 0
    assert tool("--check", root=project).stderr == ""


def test_a_checked_cell_without_output_must_be_run(project):
    notebook = load(project)
    cell(notebook, "checked")["outputs"] = []
    save(project, notebook)
    assert "its output is to be compared but there is none" in bring_into_form(project)[0]
    assert tool("--run", root=project).returncode == 0
    assert cell(load(project), "checked")["outputs"][0]["text"] == ["1\n"]


def test_a_solution_is_folded_in_the_book_in_jupyterlab_and_in_colab(project):
    solution = cell(load(project), "try")
    assert solution["metadata"]["tags"] == ["solution", "hide-cell"]
    assert solution["metadata"]["jupyter"] == {"source_hidden": True, "outputs_hidden": True}
    assert solution["metadata"]["cellView"] == "form"
    assert solution["source"][0] == "# @title Solution\n"


# Colab


def test_without_a_repository_there_is_no_badge_and_with_one_every_chapter_has_it(project):
    assert "colab.research" not in json.dumps(load(project))
    assert tool("--stamp", "ada/destseg", "--reference", "v1", root=project).returncode == 0
    notebook = load(project)
    address = "https://colab.research.google.com/github/ada/destseg/blob/v1/book/one.ipynb"
    assert address in "".join(cell(notebook, "colab")["source"])
    assert [c["id"] for c in notebook["cells"]][:3] == ["title", "colab", "setup"]
    assert 'REFERENCE, VERSION = "ada/destseg", "v1"' in "".join(cell(notebook, "setup")["source"])
    assert tool("--check", root=project).returncode == 0
    assert tool("--stamp", "", root=project).returncode == 0
    assert "colab.research" not in json.dumps(load(project))


def test_a_repository_that_is_not_owner_and_name_is_refused(project):
    refused = tool("--stamp", "https://example.com/x", root=project)
    assert refused.returncode == 1
    assert "it must be owner/name" in refused.stderr


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has what Colab has and not the library; links on PYTHONPATH are no installs."""
    folder = tmp_path_factory.mktemp("colab")
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder / "env")]
    subprocess.run(command, check=True)
    return folder


def published(folder: Path) -> Path:
    """The library as a repository ada/destseg, in a folder that plays the host."""
    home = folder / "host" / "ada" / "destseg"
    home.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "destseg_lib", home / "destseg_lib", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-TEXT"):
        shutil.copy(ROOT / name, home / name)
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], [*who, "commit", "-qm", "all"]):
        subprocess.run(["git", *words], cwd=home, check=True)
    return home.parent.parent


def run_first_cell(
    project: Path, bare: Path, host: Path | None, after: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the cell in the bare Python, with a host that is a folder, or none."""
    source = "".join(cell(load(project), "setup")["source"])
    script = bare / "cell.py"
    script.write_text(source + "\n" + after, encoding="utf-8")
    address = f"url.file://{host}/.insteadOf" if host else "url.file:///nowhere/.insteadOf"
    environment = {
        **os.environ,
        # The packages, but not the links to the project in the same folder.
        "PYTHONPATH": str(SITE),
        "COLAB_RELEASE_TAG": "release-colab",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": address,
        "GIT_CONFIG_VALUE_0": "https://github.com/",
        # No network here: setuptools is taken from PYTHONPATH too, and no index is asked.
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_NO_INDEX": "1",
    }
    python = bare / "env" / "bin" / "python"
    return python_runs(python, script, cwd=bare, env=environment)


def test_on_colab_the_first_cell_says_what_to_do_when_it_fails(project, bare):
    unset = run_first_cell(project, bare, None)
    assert unset.returncode == 1
    assert "run 'make colab REPO=owner/name'" in unset.stderr

    tool("--stamp", "ada/destseg", root=project)
    away = run_first_cell(project, bare, None)
    assert away.returncode == 1
    assert "The library could not be installed" in away.stderr
    assert "run this cell again" in away.stderr


@pytest.mark.slow
def test_on_colab_the_first_cell_installs_the_library_and_leaves_torch_alone(project, bare):
    tool("--stamp", "ada/destseg", root=project)
    after = "import torch\nprint('FROM', destseg_lib.__file__)\nprint('TORCH', torch.__file__)"
    ran = run_first_cell(project, bare, published(bare), after)
    assert ran.returncode == 0, ran.stderr
    assert f"FROM {bare}" in ran.stdout
    assert f"TORCH {SITE}" in ran.stdout
    assert "mode: tiny" in ran.stdout
    assert "device: " in ran.stdout
    installed = {path.name for path in (bare / "env").glob("lib/*/site-packages/*")}
    assert "destseg_lib" in installed
    assert not {"torch", "torchvision", "numpy"} & installed

    again = run_first_cell(project, bare, None)
    assert again.returncode == 0, again.stderr
    assert "Installing" not in again.stdout


@pytest.mark.slow
def test_elsewhere_the_first_cell_installs_nothing(project, bare):
    source = "".join(cell(load(project), "setup")["source"])
    here = {k: v for k, v in os.environ.items() if k != "COLAB_RELEASE_TAG"}
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare / "empty"], check=True)
    nothing = bare / "empty" / "bin" / "python"
    missing = python_runs(nothing, "-c", source, env={**here, "PYTHONPATH": ""})
    assert missing.returncode == 1
    assert "Run 'make install' in the project's folder" in missing.stderr

    done = python_runs(sys.executable, "-c", source, env=here)
    assert done.returncode == 0, done.stderr
    assert "Installing" not in done.stdout
    assert "mode: tiny" in done.stdout
    stale = source.replace(', "main", "', ', "main", "9.')
    refused = python_runs(sys.executable, "-c", stale, env=here)
    assert refused.returncode == 1
    assert "Take both from the same copy of the project" in refused.stderr


def change_printed(notebook: dict) -> None:
    cell(notebook, "checked")["outputs"][0]["text"] = ["2\n"]


def print_less(notebook: dict) -> None:
    cell(notebook, "checked")["outputs"] = []


def fail(notebook: dict) -> None:
    error = {"ename": "ValueError", "evalue": "no", "traceback": ["ValueError: no"]}
    cell(notebook, "try")["outputs"] = [{"output_type": "error", **error}]


def change_source(notebook: dict) -> None:
    cell(notebook, "try")["source"] = ["x = 3"]


def leave_out(notebook: dict) -> None:
    notebook["cells"].remove(cell(notebook, "try"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda notebook: None, "3 passed"),
        (change_printed, "Cell outputs differ"),
        (print_less, "Missing output fields"),
        (fail, "Cell execution caused an exception"),
        (change_source, "was executed without this cell; run 'make book' again"),
        (leave_out, "was executed without this cell; run 'make book' again"),
        (None, "does not exist; run 'make book' first"),
    ],
)
def test_executed_notebooks_are_compared_as_nbval_compares_its_own(project, change, message):
    shutil.copy(ROOT / "book" / "conftest.py", project / "book")
    (project / "results").mkdir()
    (project / "results" / "chapters.json").write_text("{}", encoding="utf-8")
    if change:
        notebook = load(project)
        change(notebook)
        cell(notebook, "checked")["execution_count"] = 1
        executed = project / "executed" / "book" / "one.ipynb"
        executed.parent.mkdir(parents=True)
        executed.write_text(json.dumps(notebook), encoding="utf-8")
    options = ("-q", "-p", "no:xdist", "--nbval-lax", "--nbval-current-env", "--executed=executed")
    done = python_runs(sys.executable, "-m", "pytest", *options, "book", cwd=project)
    assert message in done.stdout
    assert (done.returncode == 0) == (message == "3 passed")
