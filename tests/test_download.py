"""Fetching data sets from a server on this machine that behaves, and from ones that do not."""

from __future__ import annotations

import hashlib
import io
import shutil
import ssl
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest

from destseg_lib.errors import DeSTSegError
from destseg_lib.images import download as module
from destseg_lib.images.download import DATASETS, Dataset, download, download_dataset


@dataclass
class Server:
    """A server on loopback; ``cuts`` are the bytes sent before each answer breaks off."""

    body: bytes = b""
    status: int = 200
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    requests: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ATTEMPTS", 3)
    monkeypatch.setattr(module, "_PAUSE", 0)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.requests.append(wanted)
            if state.status != 200:
                self.send_error(state.status)
                return
            start = 0
            if wanted and state.ranges:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(state.body):
                    self.send_error(416)
                    return
                self.send_response(206)
                end = len(state.body) - 1
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(state.body)}")
            else:
                self.send_response(200)
            rest = state.body[start:]
            self.send_header("Content-Length", str(len(rest)))
            # What some servers say of any .tar.gz; the bytes on disk must be the archive's.
            self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(rest[: state.cuts.pop(0)] if state.cuts else rest)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/set.tar.gz"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def tar_of(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    """A gzipped tar of (name, content) files and ready-made members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


WHOLE = tar_of(
    ("set/images/a.png", b"a" * 5000), ("set/images/b/c.png", b"c"), ("set/readme.txt", b"hello")
)


def record_of(server: Server, body: bytes) -> Dataset:
    server.body = body
    return Dataset(
        title="Small Set",
        url=server.url,
        sha256=hashlib.sha256(body).hexdigest(),
        size=len(body),
        folder="small",
        use="images",
        expected=("images", "readme.txt"),
        homepage="https://example.org/set",
        licence="only for tests",
    )


def fetch(record: Dataset, root: Path, url: str | None = None) -> Path:
    return download_dataset(record, root, url, progress=False)


def assert_whole(root: Path) -> None:
    """The data set is there, and nothing of the work on it but the archive."""
    assert (root / "small/images/a.png").read_bytes() == b"a" * 5000
    assert (root / "small/images/b/c.png").read_bytes() == b"c"
    assert sorted(path.name for path in root.iterdir()) == ["set.tar.gz", "small"]


def assert_nothing_unpacked(root: Path) -> None:
    names = {path.name for path in root.iterdir()}
    assert names <= {"set.tar.gz", "set.tar.gz.destseg.download", "set.tar.gz.wrong"}


def test_a_data_set_is_fetched_checked_and_unpacked(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "new" / "data"
    assert fetch(record_of(server, WHOLE), root) == root / "small" / "images"
    assert_whole(root)
    assert len(server.requests) == 1


def test_an_archive_without_a_folder_of_its_own_is_unpacked_alike(
    server: Server, tmp_path: Path
) -> None:
    body = tar_of(("images/a.png", b"a"), ("readme.txt", b""))
    assert fetch(record_of(server, body), tmp_path) == tmp_path / "small" / "images"
    assert (tmp_path / "small/images/a.png").read_bytes() == b"a"
    only = replace(record_of(server, tar_of(("images/a.png", b"a"))), expected=("images",))
    assert fetch(only, tmp_path / "other") == tmp_path / "other" / "small" / "images"
    assert (tmp_path / "other/small/images/a.png").exists()


def test_the_licence_comes_before_the_first_request(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("builtins.print", lambda text, **_: shown.append(text))
    monkeypatch.setattr(module, "urlopen", lambda *_, **__: pytest.fail(shown[0]))
    with pytest.raises(pytest.fail.Exception, match=r"(?s)Small Set \(https.*only for tests"):
        fetch(record_of(server, WHOLE), tmp_path)


def test_what_is_there_already_is_said_and_used(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = record_of(server, WHOLE)
    fetch(record, tmp_path)
    (tmp_path / "set.tar.gz").unlink()
    capsys.readouterr()
    assert fetch(record, tmp_path) == tmp_path / "small" / "images"
    assert "Small Set is already at" in capsys.readouterr().out
    assert len(server.requests) == 1


def test_a_target_that_lacks_parts_is_not_taken_for_a_data_set(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "small" / "images").mkdir(parents=True)
    with pytest.raises(DeSTSegError, match=r"small exists but lacks readme\.txt\. Complete it"):
        fetch(record_of(server, WHOLE), tmp_path)
    assert server.requests == []


@pytest.mark.parametrize(
    ("name", "content", "requests"),
    [("small", None, 1), ("set.tar.gz", WHOLE, 0), ("set.tar.gz.destseg.download", WHOLE, 1)],
    ids=["empty target", "archive put there by hand", "download that ended unnoticed"],
)
def test_what_is_there_is_used(
    server: Server, tmp_path: Path, name: str, content: bytes | None, requests: int
) -> None:
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(content)
    fetch(record_of(server, WHOLE), tmp_path)
    assert_whole(tmp_path)
    assert len(server.requests) == requests


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_wrong_checksum_unpacks_nothing(server: Server, tmp_path: Path, by_hand: bool) -> None:
    record = record_of(server, WHOLE)
    server.body = b"<html>gone</html>"
    if by_hand:
        (tmp_path / "set.tar.gz").write_bytes(server.body)
    actual = hashlib.sha256(server.body).hexdigest()
    message = (
        rf"(?s)wrong checksum: expected SHA-256 {record.sha256}, got {actual}\. Nothing was "
        r"unpacked.*set\.tar\.gz\.wrong.*By hand: get set\.tar\.gz from https://example\.org/set"
    )
    with pytest.raises(DeSTSegError, match=message):
        fetch(record, tmp_path)
    assert_nothing_unpacked(tmp_path)
    server.body = WHOLE
    fetch(record, tmp_path)  # the wrong file is out of the way
    assert (tmp_path / "small" / "images").is_dir()


@pytest.mark.parametrize(
    ("cuts", "ranges", "last"),
    [
        ([100], True, 100),
        ([100], False, 100),  # the server starts over
        ([10] * 7, True, 70),  # more cuts than attempts, but each gets a little further
    ],
)
def test_a_cut_download_is_continued(
    server: Server, tmp_path: Path, cuts: list[int], ranges: bool, last: int
) -> None:
    server.cuts, server.ranges = list(cuts), ranges
    fetch(record_of(server, WHOLE), tmp_path)
    assert len(server.requests) == len(cuts) + 1
    assert server.requests[-1] == f"bytes={last}-"
    assert_whole(tmp_path)


def test_a_connection_always_cut_gives_up_with_the_manual_way(
    server: Server, tmp_path: Path
) -> None:
    record = record_of(server, WHOLE)
    half = len(WHOLE) // 2
    server.cuts = [half, 0, 0, 0, 0]
    message = (
        rf"(?s)Small Set could not be downloaded from {server.url}: .*By hand: get set\.tar\.gz "
        rf"from https://example\.org/set, put it into .*SHA-256 must be {record.sha256}.*--url"
    )
    with pytest.raises(DeSTSegError, match=message):
        fetch(record, tmp_path)
    assert len(server.requests) == 3
    assert_nothing_unpacked(tmp_path)
    server.cuts = []
    fetch(record, tmp_path)  # a later call goes on from the half there is
    assert server.requests[-1] == f"bytes={half}-"
    assert_whole(tmp_path)


def test_a_wrong_bundle_of_certificates_is_no_full_disk(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError(ssl.SSLCertVerificationError(1, "certificate verify failed"))

    monkeypatch.setattr(module, "urlopen", refuse)
    with pytest.raises(DeSTSegError, match=r"(?s)certificate verify failed.*By hand") as told:
        fetch(record_of(server, WHOLE), tmp_path)
    assert "cannot be stored" not in str(told.value)


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (500, 3), (503, 3), (429, 3)])
def test_only_errors_that_may_pass_are_tried_again(
    server: Server, tmp_path: Path, status: int, tries: int
) -> None:
    record = record_of(server, WHOLE)
    server.status = status
    with pytest.raises(DeSTSegError, match=rf"(?s)could not be downloaded.*{status}.*By hand"):
        fetch(record, tmp_path)
    assert len(server.requests) == tries


def test_a_dead_port_and_a_wrong_address_are_told(server: Server, tmp_path: Path) -> None:
    record = record_of(server, WHOLE)
    for url in ("http://127.0.0.1:9/set.tar.gz", "nonsense", "ftp://127.0.0.1/set.tar.gz"):
        with pytest.raises(DeSTSegError, match=rf"(?s)downloaded from {url}: .*By hand"):
            fetch(record, tmp_path, url)
    assert server.requests == []


def test_another_address_is_taken_with_the_same_checksum(server: Server, tmp_path: Path) -> None:
    record = replace(record_of(server, WHOLE), url="http://127.0.0.1:9/dead/set.tar.gz")
    fetch(record, tmp_path, server.url)
    assert_whole(tmp_path)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "bad",
    [
        member("set/../../../evil"),
        member("set/evil", tarfile.SYMTYPE, "/etc/passwd"),
        member("set/evil", tarfile.SYMTYPE, "../../../readme.txt"),
        member("set/evil", tarfile.LNKTYPE, "../../set.tar.gz"),
        member("set/evil", tarfile.CHRTYPE),
        member("set/evil", tarfile.FIFOTYPE),
    ],
)
def test_unsafe_archives_are_refused_whole(
    server: Server, tmp_path: Path, bad: tarfile.TarInfo
) -> None:
    root = tmp_path / "a" / "b"
    record = record_of(server, tar_of(("set/images/a.png", b""), ("set/readme.txt", b""), bad))
    with pytest.raises(DeSTSegError, match=r"set\.tar\.gz cannot be unpacked: '.*evil'"):
        fetch(record, root)
    assert_nothing_unpacked(root)
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("name", ["/../evil", "/etc/evil-destseg", "C:\\evil", "..\\..\\evil"])
def test_absolute_and_windows_paths_do_not_leave_the_folder(
    server: Server, tmp_path: Path, name: str
) -> None:
    root = tmp_path / "a" / "b"
    record = record_of(server, tar_of(("images/a.png", b""), ("readme.txt", b""), (name, b"")))
    try:
        fetch(record, root)
    except DeSTSegError:
        assert_nothing_unpacked(root)
    assert all(root / "small" in path.parents for path in tmp_path.rglob("*evil*"))
    assert not Path("/etc/evil-destseg").exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"no archive at all", r"set\.tar\.gz cannot be unpacked"),
        (WHOLE[: len(WHOLE) // 2], r"set\.tar\.gz cannot be unpacked"),
        (tar_of(("set/images/a.png", b"")), r"set\.tar\.gz lacks readme\.txt"),
    ],
    ids=["no archive", "cut short", "other content"],
)
def test_an_archive_that_is_not_the_data_set_leaves_nothing(
    server: Server, tmp_path: Path, body: bytes, message: str
) -> None:
    with pytest.raises(DeSTSegError, match=message):
        fetch(record_of(server, body), tmp_path)
    assert_nothing_unpacked(tmp_path)


def test_an_interrupted_unpacking_is_never_taken_for_a_data_set(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_of(server, WHOLE)
    make = tarfile.TarFile.makefile
    with monkeypatch.context() as patch:

        def stopping(tar: tarfile.TarFile, info: tarfile.TarInfo, path: str) -> None:
            if info.name.endswith("readme.txt"):
                raise KeyboardInterrupt
            make(tar, info, path)

        patch.setattr(tarfile.TarFile, "makefile", stopping)
        # As when the process is killed: nothing is tidied up.
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            fetch(record, tmp_path)
    assert (tmp_path / ".small.destseg.unpacking").exists()
    assert not (tmp_path / "small").exists()
    fetch(record, tmp_path)
    assert_whole(tmp_path)
    assert len(server.requests) == 1


def test_a_small_disk_is_told_before_fetching(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_of(server, WHOLE)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2 * len(WHOLE) - 1))
    with pytest.raises(DeSTSegError, match=r"GB are needed in .*has 0\.0 GB free\. Make room"):
        fetch(record, tmp_path)
    assert server.requests == []


def test_a_root_that_is_a_file_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(DeSTSegError, match=r"Small Set cannot be stored in .*data"):
        fetch(record_of(server, WHOLE), tmp_path / "data")


def test_progress_is_shown_unless_declined(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = record_of(server, WHOLE)
    download_dataset(record, tmp_path / "a")
    shown = capsys.readouterr().err
    assert all(stage in shown for stage in ("Small Set", "checksum", "unpacking"))
    download_dataset(record, tmp_path / "b", progress=False)
    assert capsys.readouterr().err == ""


def test_data_sets_are_known_by_name(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeSTSegError, match=r"no data set 'visa'; expected one of mvtec-ad, dtd"):
        download("visa", tmp_path)
    server.body = b"not the real archive"
    assert len(DATASETS["mvtec-ad"].expected) == 15
    for name, record in DATASETS.items():
        assert "research" in record.licence or "non-commercial" in record.licence
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**12))
        with pytest.raises(DeSTSegError, match=rf"expected SHA-256 {record.sha256}"):
            download(name, tmp_path / name, server.url, progress=False)
