"""Write the built-in teacher's card: ``python -m tools.weights.distil.card [--check]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from destseg_lib.teacher import BUILTIN

RECORD = Path(__file__).resolve().parents[3] / "results" / "builtin_teacher" / "similarity.json"
FILTERS = RECORD.with_name("filters.json")
TEMPLATE = Path(__file__).parent / "card.md"


def card() -> str:
    """The template with the record's figures in it."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    last = record["curve"][-1]
    values = {
        "fingerprint": record["builtin_fingerprint"],
        "minutes": f"{last['seconds'] / 60:.0f}",
        "steps": f"{last['step']:,}",
        "processor": record["provenance"]["processor"],
    }
    for name, count in record["photographs"].items():
        found = record["similarity"][name]["128"]
        values[f"{name}_n"] = f"{count:,}"
        values[name] = " / ".join(f"{v:.3f}" for v in found["builtin"])
        values[f"{name}_r"] = " / ".join(f"{v:.3f}" for v in found["random"])
    alike = json.loads(FILTERS.read_text(encoding="utf-8"))["likeness"]["builtin"]
    for key, name in (
        ("conv1", "conv1"),
        ("layer2", "layer2.0.conv1"),
        ("layer3", "layer3.1.conv1"),
    ):
        values[key] = f"{alike[name][1]:.2f}"
    return TEMPLATE.read_text(encoding="utf-8").format(**values)


def main() -> int:
    """Write the card, or with --check fail if it would change."""
    file = BUILTIN.with_suffix(".md")
    if "--check" in sys.argv:
        return int(file.read_text(encoding="utf-8") != card())
    file.write_text(card(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
