"""Put a distilled network into the package, at half precision.

python -m tools.weights.distil.ship --weights runs/distil
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from destseg_lib.teacher import BUILTIN


def main() -> None:
    """Write the last weights of a distillation as the built-in teacher."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    options = parser.parse_args()
    state = torch.load(options.weights / "state.pt", weights_only=True)
    weights = {
        # Batch norm's statistics are few, and half precision would cost them dearly.
        name: (tensor.half() if tensor.ndim > 1 else tensor).contiguous()
        for name, tensor in state["trunk"].items()
        if not name.endswith("num_batches_tracked")
    }
    BUILTIN.parent.mkdir(exist_ok=True)
    save_file(weights, BUILTIN, {"plan": json.dumps(state["plan"]), "steps": str(state["step"])})
    print(BUILTIN.name, BUILTIN.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
