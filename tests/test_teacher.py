"""The teacher: frozen, the same from any file, and never a way to run a stranger's code."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from http.client import IncompleteRead
from pathlib import Path
from unittest.mock import MagicMock
from urllib.error import URLError

import numpy as np
import pytest
import torch
from permissions import message_as_nobody, needs_fork
from safetensors.torch import save, save_file
from torch import nn
from torchvision.models import resnet18, resnet34

from destseg_lib import DeSTSegError, load_teacher
from destseg_lib.teacher import IMAGENET_MEAN, IMAGENET_STD, normalise, read_weights

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """torchvision's own, whole, with statistics that are not the initial ones."""
    torch.manual_seed(0)
    model = resnet18(weights=None)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return model.eval()


def images(batch: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def torchvision_features(network: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
        return [x := layer(x) for layer in (network.layer1, network.layer2, network.layer3)]


def assert_same_features(teacher: nn.Module, network: nn.Module, share: float = 0.0) -> None:
    """A share of each level's deviation is allowed, and rounding."""
    oracle = torchvision_features(network, images())
    for found, level in zip(teacher(images()), oracle, strict=True):
        allowed = share * (float(level.std()) + 1) + 1e-5
        np.testing.assert_allclose(found, level, rtol=1e-5, atol=allowed)


def test_normalise_is_the_formula():
    pixels = torch.rand(2, 3, 4, 5)
    by_hand = (pixels.numpy().transpose(0, 2, 3, 1) - IMAGENET_MEAN) / IMAGENET_STD
    np.testing.assert_allclose(
        normalise(pixels), by_hand.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6
    )


# What it is


def test_three_levels_at_a_quarter_an_eighth_and_a_sixteenth():
    features = load_teacher("random")(images(2, 96))
    assert [tuple(f.shape) for f in features] == [(2, 64, 24, 24), (2, 128, 12, 12), (2, 256, 6, 6)]


def test_the_random_teacher_is_always_the_same_and_alive_at_every_level():
    before = torch.get_rng_state()
    one = load_teacher("random")
    torch.rand(3)
    assert one.fingerprint() == load_teacher("random").fingerprint()
    torch.set_rng_state(before)
    for level in one(images()):
        assert level.std() > 0.1
        assert torch.isfinite(level).all()


def test_it_is_frozen_and_stays_in_eval_mode():
    teacher = load_teacher("random")
    around = nn.Sequential(teacher).train()
    assert around.training and not any(part.training for part in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    before = teacher.fingerprint()
    assert not any(f.requires_grad for f in teacher(5 + 3 * images()))
    assert teacher.fingerprint() == before, "a forward pass must not move batch-norm statistics"


def test_the_fingerprint_tells_weights_apart():
    teacher = load_teacher("random")
    before = teacher.fingerprint()
    teacher.trunk.layer3[1].bn2.running_mean[7] += 1e-3
    assert len(before) == 16
    assert teacher.fingerprint() != before


# Files of weights


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_torchvisions_whole_state_dict_is_accepted(network, tmp_path, name):
    path = tmp_path / name
    (save_file if name.endswith(".safetensors") else torch.save)(network.state_dict(), path)
    teacher = load_teacher(path)
    assert teacher.name == str(path)
    assert_same_features(teacher, network)


def test_weights_without_counters_or_in_half_precision_are_accepted(network, tmp_path):
    state = {
        k: v.half()
        for k, v in network.state_dict().items()
        if not k.endswith("num_batches_tracked")
    }
    save_file(state, tmp_path / "half.safetensors")
    teacher = load_teacher(str(tmp_path / "half.safetensors"))
    assert {p.dtype for p in teacher.parameters()} == {torch.float32}
    assert_same_features(teacher, network, share=0.01)


def refused(path: Path, message: str) -> None:
    with pytest.raises(DeSTSegError, match=message) as told:
        load_teacher(path)
    assert path.name in str(told.value)


def test_a_missing_file_or_a_folder_is_named(tmp_path):
    expected = "is not a file; give 'imagenet', 'builtin', 'random' or a file of ResNet-18 weights"
    refused(tmp_path / "nowhere.safetensors", expected)
    refused(tmp_path, expected)


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple:
        return Path.touch, (self.sprung,)


def trapped(kind: str, path: Path, sprung: Path) -> None:
    content = {"conv1.weight": torch.zeros(64, 3, 7, 7), "bn1.weight": Trap(sprung)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        *((kind, "w.pt", "more than tensors and could run code .* was refused; .* as .safetensors")
          for kind in ("zip", "legacy", "pickle")),
        ("pickle", "w.safetensors", "could not be read as weights"),
    ],
)  # fmt: skip
def test_a_malicious_pickle_is_refused_and_nothing_in_it_runs(tmp_path, kind, name, message):
    sprung, path = tmp_path / "sprung", tmp_path / name
    trapped(kind, path, sprung)
    refused(path, message)
    assert not sprung.exists()
    if kind == "pickle":  # the trap works
        pickle.loads(path.read_bytes())
        assert sprung.exists()


def torch_bytes(content: object, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize("kept", [0, 1, 7, 100, 0.5, -1])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_a_truncated_file_is_damaged(tmp_path, kind, kept):
    state = {f"weight{n}": torch.ones(8, 8) for n in range(8)}
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(state, path)
    else:
        path.write_bytes(torch_bytes(state, zipped=kind == "zip"))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    refused(path, "could not be read as weights .*; download or save it again|is damaged, or")


def zipped_text() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "no weights here")
    return buffer.getvalue()


DAMAGED = "could not be read as weights"
NO_STATE = r"is not a state_dict of tensors; save model.state_dict\(\)"


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>404 Not Found</html>", DAMAGED),
        (b"\x80\x02garbage", DAMAGED),
        (bytes(range(256)) * 8, DAMAGED),
        (b"PK\x03\x04 no zip", DAMAGED),
        (zipped_text(), DAMAGED),
        (torch_bytes(nn.Linear(2, 2)), "save a plain state_dict"),
        (torch_bytes({"state_dict": {"conv1.weight": torch.zeros(1)}}), NO_STATE),
        (torch_bytes([torch.zeros(1)]), NO_STATE),
        (torch_bytes(torch.zeros(1)), NO_STATE),
    ],
    ids=["html", "pickle", "bytes", "no zip", "zip", "module", "nested", "list", "tensor"],
)
def test_what_never_was_weights_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    safe = name.endswith(".safetensors")
    refused(tmp_path / name, DAMAGED if safe else f"{message}|was refused")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_damaged_byte_never_is_a_traceback(tmp_path, zipped):
    whole, path = torch_bytes({"weight": torch.ones(4, 4)}, zipped=zipped), tmp_path / "w.pt"
    generator, refusals = np.random.default_rng(0), 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[generator.integers(min(len(whole), 600))] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            read_weights(path)  # a number of a tensor may change unnoticed
        except DeSTSegError:
            refusals += 1
    assert refusals > 20


@needs_fork
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_a_file_that_may_not_be_read_is_named(tmp_path, name):
    # In tmp_path, which is this user's own, nobody else may even look.
    path = tmp_path / name
    path.write_bytes(save({}) if path.suffix == ".safetensors" else torch_bytes({}))
    path.chmod(0)
    message = message_as_nobody(lambda: load_teacher(path))
    assert f"{name} may not be read" in message
    assert "ermission denied" in message and "change its permissions" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: resnet34(weights=None).state_dict(),
            "not a ResNet-18 under torchvision's names: it holds layer1.2.bn1.bias, which",
        ),
        (
            lambda state: {f"encoder.{k}": v for k, v in state.items()},
            r"it lacks bn1.bias; save torchvision's resnet18\(\)",
        ),
        (
            lambda state: {k: v for k, v in state.items() if k != "layer3.1.conv2.weight"},
            "it lacks layer3.1.conv2.weight",
        ),
        (
            lambda state: {k: torch.cat([v, v]) if v.ndim else v for k, v in state.items()},
            r"is \(\d+,.*, a ResNet-18 has \(\d+,",
        ),
    ],
    ids=["resnet34", "prefixed", "incomplete", "wide"],
)
def test_weights_of_another_architecture_are_named(network, tmp_path, change, message):
    save_file(change(network.state_dict()), tmp_path / "w.safetensors")
    refused(tmp_path / "w.safetensors", message)


# The download


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty place for downloads, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "urlopen", fails(URLError("Name or service not known")))
    return tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"


def fails(fault: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise fault

    return fail


def test_the_imagenet_teacher_is_downloaded_once_with_its_checksum(network, cache, monkeypatch):
    asked = []

    def download(url: str, path: str, checksum: str) -> None:
        asked.append((url, checksum))
        torch.save(network.state_dict(), path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        teacher = load_teacher("imagenet")
    assert asked == [("https://download.pytorch.org/models/resnet18-f37072fd.pth", "f37072fd")]
    assert cache.is_file()
    assert teacher.name == "imagenet"
    assert_same_features(teacher, network)


def answers(*parts: bytes | Exception) -> Callable[..., MagicMock]:
    """A connection that gives these parts, one per read."""
    response = MagicMock()
    response.__enter__.return_value = response
    response.read.side_effect = parts
    return lambda *_, **__: response


@pytest.mark.parametrize(
    ("connection", "reason"),
    [
        (fails(URLError("Name or service not known")), "<urlopen error Name or service not known>"),
        (answers(b"half of it", ConnectionResetError("reset by peer")), "reset by peer"),
        (answers(b"half of it", IncompleteRead(b"", 9)), str(IncompleteRead(b"", 9))),
        (answers(b"half of it", TimeoutError("slow")), "slow"),
        (answers(b"something else", b""), "invalid hash value"),
    ],
)
def test_a_failed_download_leaves_nothing_and_one_sentence_says_what_to_do(
    cache, monkeypatch, connection, reason
):
    monkeypatch.setattr(torch.hub, "urlopen", connection)
    with pytest.raises(DeSTSegError) as refusal:
        load_teacher("imagenet")
    message = str(refusal.value)
    assert message.startswith(f"the ImageNet teacher could not be downloaded ({reason}")
    assert "fetch https://download.pytorch.org/models/resnet18-f37072fd.pth by other" in message
    assert f"into {cache.parent}, or choose --teacher builtin or a file of weights" in message
    assert "\n" not in message
    assert not cache.exists()


def test_what_was_put_in_the_cache_is_not_trusted_either(cache, tmp_path):
    cache.parent.mkdir(parents=True)
    trapped("zip", cache, tmp_path / "sprung")
    with pytest.raises(DeSTSegError, match=r"fd\.pth is damaged, or holds more than"):
        load_teacher("imagenet")
    assert not (tmp_path / "sprung").exists()
    cache.write_bytes(b"")
    with pytest.raises(DeSTSegError, match=r"fd\.pth could not be read as weights"):
        load_teacher("imagenet")


# The real one


@pytest.fixture(scope="module")
def imagenet(shared):
    return load_teacher(shared / "teacher" / "resnet18_imagenet1k_v1_layer1-3.safetensors")


def test_the_authors_teacher_gives_the_same_features(imagenet, shared):
    with np.load(shared / "reference" / "teacher_features.npz") as file:
        features = imagenet(normalise(torch.from_numpy(file["image"])[None]))
        for level, found in enumerate(features, start=1):
            expected = file[f"layer{level}"]
            off = np.abs(found[0].numpy() - expected)
            assert off.max() <= 1e-4 * np.abs(expected).max(), level
            assert np.linalg.norm(off) <= 1e-4 * np.linalg.norm(expected), level
