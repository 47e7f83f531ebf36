"""The device that runs the model, and its arithmetic."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from destseg_lib.config import Precision
from destseg_lib.errors import DeSTSegError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's numbers for mallopt
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str = "auto") -> torch.device:
    """Find a device by name; ``auto`` is cuda, else mps, else cpu. mps is untested in this project.

    Raises:
        DeSTSegError: the name is unknown, or this machine has no such device.
    """
    here = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device, available in here.items() if available)
    if name not in here:
        raise DeSTSegError(f"device is {name!r}; choose auto, cpu, cuda or mps")
    if not here[name]:
        raise DeSTSegError(
            f"this machine has no {name} device that torch can use; try --device cpu"
        )
    return torch.device(name)


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """``auto`` is bf16 where the processor computes in it, fp16 on older GPUs, else fp32.

    A processor without bf16 instructions emulates them, which is slower than fp32.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and _has("amx_tile", "avx512_bf16") else "fp32"


def prediction_precision(precision: Precision, device: torch.device) -> Precision:
    """A run's precision where this device computes in it, else fp32.

    A processor without bf16 instructions takes several times as long for it, and scores differ by
    some hundredths at most.
    """
    precision = resolve_precision(precision, device)
    here = {
        "fp32": True,
        "bf16": resolve_precision("auto", device) == "bf16",
        "fp16": device.type == "cuda",
    }
    return precision if here[precision] else "fp32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """The context in which the networks run at a resolved precision."""
    context: AbstractContextManager[None] = torch.autocast(
        device.type, dtype=DTYPES[precision], enabled=precision != "fp32"
    )
    return context


def send(tensor: Tensor, device: torch.device | None) -> Tensor:
    """The same numbers on a device, without waiting for what a GPU still has to do.

    A plain copy from memory to a GPU waits until the GPU has finished all that it was given, so
    that it then has nothing to do until it is given more. A copy from pinned memory takes its turn.
    """
    if device is not None and device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def check_threads(threads: int | str | None) -> None:
    """Raise DeSTSegError if a number of threads is given and less than one."""
    if isinstance(threads, int) and threads < 1:
        raise DeSTSegError(f"{threads} threads cannot compute; give --threads 1 or more")


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Let torch use this many threads inside the block; None leaves their number alone.

    Raises:
        DeSTSegError: fewer than one.
    """
    check_threads(threads)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or before)
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Make the C library keep the memory of freed tensors for the next step.

    Otherwise activations of hundreds of megabytes go back to the operating system after each step,
    and it must clear their pages again. In fp32 on a CPU with AVX2 this is about 4 % of a step; the
    faster the arithmetic, the larger the share. For a process that trains on a CPU with glibc; it
    does nothing elsewhere.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)  # never


def describe_device(device: torch.device) -> str:
    """For provenance: the GPU's name, or the CPU's instruction set and thread count."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    instructions = torch.backends.cpu.get_cpu_capability()
    instructions += " with AMX" if _has("amx_tile") else ""
    return f"{device.type}, {instructions}, {torch.get_num_threads()} threads"


def _has(*features: str) -> bool:
    """Whether this CPU has one of some instruction sets, as far as torch can tell."""
    # torch has no public name for these; a missing function counts as a missing instruction set.
    return any(getattr(torch.cpu, f"_is_{feature}_supported", bool)() for feature in features)
