"""Which processor runs the model, and in which arithmetic."""

from __future__ import annotations

import ctypes
import time
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F

from destseg_lib.config import Precision
from destseg_lib.errors import DeSTSegError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's numbers for mallopt
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str = "auto") -> torch.device:
    """``auto`` is cuda, else mps, else cpu; mps is untested in this project.

    Raises:
        DeSTSegError: the device asked for is not here.
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
    """``auto`` is bf16 where it is fast, fp16 on older GPUs, else fp32.

    A processor that merely emulates bf16 is slower with it than without, so on a CPU one
    convolution is timed both ways.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp16"
    if device.type == "cpu":
        return "bf16" if _convolution_time(torch.bfloat16) < 0.8 * _convolution_time() else "fp32"
    return "fp32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """The context in which the networks run at a resolved precision."""
    context: AbstractContextManager[None] = torch.autocast(
        device.type, dtype=DTYPES[precision], enabled=precision != "fp32"
    )
    return context


def keep_freed_memory() -> None:
    """Have the C library keep the memory that large tensors give back, for the next step.

    Activations of hundreds of megabytes are freed and asked for again every step; by default each
    goes back to the operating system, which must clear its pages anew. For a process that trains on
    a CPU; does nothing where the C library is not glibc.
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
    amx = getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    instructions = torch.backends.cpu.get_cpu_capability() + (" with AMX" if amx else "")
    return f"{device.type}, {instructions}, {torch.get_num_threads()} threads"


def _convolution_time(dtype: torch.dtype = torch.float32) -> float:
    """Best of three runs of one typical convolution, in seconds."""
    x = torch.ones(4, 128, 32, 32, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.ones(128, 128, 3, 3, dtype=dtype)
    times = []
    with torch.no_grad():
        F.conv2d(x, weight, padding=1)
        for _ in range(3):
            start = time.perf_counter()
            F.conv2d(x, weight, padding=1)
            times.append(time.perf_counter() - start)
    return min(times)
