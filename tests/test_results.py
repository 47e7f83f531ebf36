"""The README's figures are those of the committed records, and a stale one is noticed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def check(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, root / "tools" / "results.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_readme_shows_what_the_records_say() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stderr


def test_a_changed_record_makes_the_readme_stale(tmp_path: Path) -> None:
    for name in ("tools", "results"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "README.md", tmp_path)
    assert check(tmp_path).returncode == 0
    records = sorted((tmp_path / "results" / "magnetic_tile").glob("*.json"))
    assert records, "there is no record to change"
    text = records[0].read_text(encoding="utf-8")
    figure = text.index('"report"')
    digit = text.index("0.", text.index('"image_auroc"', figure)) + 2
    changed = "1" if text[digit] != "1" else "2"
    records[0].write_text(text[:digit] + changed + text[digit + 1 :], encoding="utf-8")
    done = check(tmp_path)
    assert done.returncode == 1
    assert "stale" in done.stderr
