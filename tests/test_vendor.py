"""What the pages load is fetched by name and version, and refused if it is not what was locked."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import pytest
import vendor


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "one-1.0.0.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name in ("package/a.js", "package/fonts/b.woff", "package/left.js"):
            data = name.encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_the_lock_names_versions_and_hashes_and_no_address():
    text = vendor.LOCK.read_text(encoding="utf-8")
    assert set(json.loads(text)) == set(vendor.WANTED)
    assert "://" not in text
    for entry in json.loads(text).values():
        assert re.fullmatch(r"\d+\.\d+\.\d+", entry["version"])
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", entry["integrity"])


def test_an_archive_with_another_hash_is_refused(archive):
    right = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    vendor.check(archive, "one", right)
    archive.write_bytes(archive.read_bytes() + b"\0")
    with pytest.raises(SystemExit, match=r"one is not what vendor\.lock\.json names") as refused:
        vendor.check(archive, "one", right)
    assert "Do not build from it" in str(refused.value)


def test_only_what_is_wanted_is_unpacked_and_all_of_it(archive, tmp_path):
    vendor.unpack(archive, {"a.js": "x/a.js", "fonts": "x/fonts"}, tmp_path / "out")
    written = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    assert written == {"x/a.js", "x/fonts/b.woff"}
    with pytest.raises(SystemExit, match=r"holds no gone\.js"):
        vendor.unpack(archive, {"gone.js": "x"}, tmp_path / "out")


def test_nothing_is_fetched_when_all_is_there(monkeypatch, tmp_path):
    lock = json.loads(vendor.LOCK.read_text(encoding="utf-8"))
    monkeypatch.setattr(vendor, "VENDOR", tmp_path)
    monkeypatch.setattr(vendor, "fetch", lambda *_: pytest.fail("something was fetched"))
    (tmp_path / "stamp").write_text(vendor.fingerprint(lock), encoding="utf-8")
    vendor.main()
    assert [path.name for path in tmp_path.iterdir()] == ["stamp"]


def test_the_icons_that_are_kept_are_the_theme_s(tmp_path):
    pytest.importorskip("pydata_sphinx_theme")
    vendor.install_icons(tmp_path / "scripts" / "icons.js")
    text = (tmp_path / "scripts" / "icons.js").read_text(encoding="utf-8")
    assert len(text) < 200_000
    for name in vendor.ICONS.split():
        assert re.search(rf'(?:"{name}"|\b{name}):\[\d+,\d+,', text), name
