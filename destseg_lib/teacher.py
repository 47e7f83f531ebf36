"""The teacher: a frozen ResNet-18 whose first three stages describe a photograph (section 3.2).

It is never trained here and always in eval mode.
"""

from __future__ import annotations

import hashlib
import pickle
from http.client import HTTPException
from pathlib import Path

import torch
from safetensors.torch import load as from_safetensors
from torch import Tensor, nn

from destseg_lib.config import TEACHER_CHANNELS
from destseg_lib.device import send
from destseg_lib.errors import DeSTSegError
from destseg_lib.resnet import ResNetTrunk, initialise

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RANDOM_TEACHER_SEED = 0
BUILTIN = Path(__file__).parent / "weights" / "teacher_builtin.safetensors"


def normalise(images: Tensor) -> Tensor:
    """Bring images (B, 3, H, W) in [0, 1] to the mean and variance that the teacher expects."""
    mean, std = (
        send(torch.tensor(three, dtype=images.dtype), images.device)
        for three in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return (images - mean[:, None, None]) / std[:, None, None]


class Teacher(nn.Module):
    """Normalised images (B, 3, H, W) to features at 1/4, 1/8 and 1/16 with 64, 128, 256 channels.

    It stays frozen: it has no gradients, and ``train()`` leaves it in eval mode.

    Args:
        trunk: the network with its weights.
        name: its name in messages and records.
    """

    def __init__(self, trunk: ResNetTrunk, name: str) -> None:
        super().__init__()
        self.name = name
        self.trunk = trunk
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Teacher:
        """Stay in eval mode, also when the model around it is put in train mode."""
        super().train(False)
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The features of the first three stages, finest first."""
        one, two, three = self.trunk(images)
        return one, two, three

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits computed from the weights; other weights give others."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
        return digest.hexdigest()[:16]


def load_teacher(name_or_path: str | Path = "builtin") -> Teacher:
    """Load a frozen teacher.

    >>> teacher = load_teacher("builtin")
    >>> [tuple(level.shape) for level in teacher(torch.zeros(1, 3, 64, 64))]
    [(1, 64, 16, 16), (1, 128, 8, 8), (1, 256, 4, 4)]

    Args:
        name_or_path: ``imagenet`` (torchvision's ``ResNet18_Weights.IMAGENET1K_V1``, downloaded
            once), ``builtin`` (a copy of its behaviour learned from drawn pictures, part of this
            package; its card is ``weights/teacher_builtin.md``), ``random`` (the same network,
            never trained; always the same weights), or a file of ResNet-18 weights under
            torchvision's names, safetensors or a torch file of tensors alone. The teacher's
            ``name`` says which it is.

    Raises:
        DeSTSegError: no network, no such file, weights of another network, or a file that holds
            anything but tensors.
    """
    trunk = ResNetTrunk(tuple(TEACHER_CHANNELS.values()))
    if name_or_path == "random":
        generator = torch.Generator().manual_seed(RANDOM_TEACHER_SEED)
        initialise(trunk, generator, zero_residual=False)
    elif name_or_path == "builtin":
        _load(trunk, read_weights(BUILTIN), "the built-in teacher")
    elif name_or_path == "imagenet":
        _load(trunk, _imagenet_weights(), "torchvision's IMAGENET1K_V1")
    else:
        path = Path(name_or_path)
        _load(trunk, read_weights(path), str(path))
    return Teacher(trunk, str(name_or_path))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a safetensors or torch file; nothing in the file is ever executed.

    Raises:
        DeSTSegError: the file is missing, damaged, or holds more than tensors.
    """
    try:
        path.open("rb").close()
    except PermissionError as error:
        raise DeSTSegError(f"{path} may not be read ({error}); change its permissions") from None
    except OSError:
        raise DeSTSegError(
            f"{path} is not a file; give 'imagenet', 'builtin', 'random' or a file of ResNet-18 "
            "weights"
        ) from None
    weights = read_weights_file(path)
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise DeSTSegError(f"{path} is not a state_dict of tensors; save model.state_dict()")
    return weights


def read_weights_file(path: Path) -> object:
    """The content of a safetensors file, or of a torch file of tensors and plain values.

    Raises:
        DeSTSegError: the file is damaged, or loading it could run code.
    """
    try:
        if path.suffix == ".safetensors":
            return from_safetensors(path.read_bytes())  # a path must be UTF-8, its bytes need not
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise DeSTSegError(
            f"{path} is damaged, or holds more than tensors and could run code if it were loaded, "
            "so it was refused; save a plain state_dict, best as .safetensors"
        ) from None
    except Exception as error:  # damaged bytes make torch's reader fail in a dozen ways
        raise DeSTSegError(
            f"{path} could not be read as weights ({error}); download or save it again"
        ) from None
    return content


def _load(trunk: ResNetTrunk, weights: dict[str, Tensor], source: str) -> None:
    # layer4 and fc belong to ResNet-18 but not to the teacher.
    wanted = {k: v for k, v in weights.items() if not k.startswith(("layer4.", "fc."))}
    own = trunk.state_dict()
    counters = {k for k in own if k.endswith("num_batches_tracked")}
    missing = sorted(set(own) - counters - set(wanted))
    unknown = sorted(set(wanted) - set(own))
    if missing or unknown:
        problem = f"lacks {missing[0]}" if missing else f"holds {unknown[0]}, which it should not"
        raise DeSTSegError(
            f"{source} is not a ResNet-18 under torchvision's names: it {problem}; "
            "save torchvision's resnet18().state_dict()"
        )
    for key, tensor in wanted.items():
        if tensor.shape != own[key].shape:
            raise DeSTSegError(
                f"{source}: {key} is {tuple(tensor.shape)}, a ResNet-18 has "
                f"{tuple(own[key].shape)}; give weights of that network"
            )
    trunk.load_state_dict({k: v.float() for k, v in wanted.items()}, strict=False)


def _imagenet_weights() -> dict[str, Tensor]:
    from torchvision.models import ResNet18_Weights  # takes seconds; only here is it needed

    # torchvision keeps it there too, but would unpickle the file without a look at its content.
    url = ResNet18_Weights.IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            checksum = path.stem.rpartition("-")[2]
            torch.hub.download_url_to_file(url, str(path), checksum)
        except (OSError, HTTPException, RuntimeError) as error:
            raise DeSTSegError(
                f"the ImageNet teacher could not be downloaded ({error}); fetch {url} by other "
                f"means into {path.parent}, or choose --teacher builtin or a file of weights"
            ) from None
    return read_weights(path)
