"""Measure everything on this machine's GPU (or, reduced, on its CPU).

    make bench-gpu                                     everything, 22 minutes
    python -m gpu --parts matrix,lora --budget 240     some parts in so many seconds
    python -m gpu --reduced                            small, on a CPU: does every path run?

No network, no files: the weights are random, in the official shapes. Results are written after each part into
``--out`` as JSON and Markdown, named by card and month; faults stand in errors.txt beside them.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import time
import warnings
from pathlib import Path

import torch
import transformers

from gpu.budget import Budget
from gpu.device import Device, find_device
from gpu.model import SIZES
from gpu.record import Record
from gpu.session import Session

PARTS = {
    "matrix": 10.0,
    "lora": 110.0,
    "top": 40.0,
    "full": 60.0,
    "generation": 70.0,
    "images": 40.0,
    "equality": 40.0,
    "compiled": 110.0,
}
"""Parts, the most valuable first, and how the time is shared among those that are asked for."""
MODULES = {"top": "top_layers"}


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="which parts, with commas, in their own order")
    parser.add_argument("--budget", type=float, default=1320.0, help="seconds for all parts together")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    parser.add_argument("--reduced", action="store_true", help="a small model, on a CPU")
    parser.add_argument("--record-curves", action="store_true", help="write the CPU's losses that part 7 compares with")
    asked = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    if asked.record_curves:
        importlib.import_module("gpu.parts.equality").record_curves()
        return
    chosen = asked.parts.split(",")
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    device = Device() if asked.reduced else find_device()
    if device.kind == "cpu" and not asked.reduced:
        parser.error("there is no GPU; --reduced runs a small model on the CPU")
    budget = Budget(asked.budget, {part: weight for part, weight in PARTS.items() if part in chosen})
    about = {
        **device.about(),
        "month": time.strftime("%B %Y"),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "size": "reduced" if asked.reduced else "official",
    }
    record = Record(asked.out, about, device, budget)
    session = Session(SIZES["reduced" if asked.reduced else "official"], device, record)
    print(f"{about}", flush=True)
    for part in [name for name in PARTS if name in chosen]:
        print(f"== {part}: {budget.begin(part):.0f} s of {budget.left():.0f} s", flush=True)
        start = time.monotonic()
        # A part that fails as a whole, outside of its attempts, is written down like one of them.
        module = importlib.import_module(f"gpu.parts.{MODULES.get(part, part)}")
        record.attempt(part, "whole part", 0.0, lambda module=module: module.run(session) or {})  # type: ignore[misc]
        if set(record.parts[part].get("whole part", {})) <= {"took_s"}:
            record.parts[part].pop("whole part", None)
        record.save()
        print(f"   {time.monotonic() - start:.1f} s", flush=True)
    print((record.folder / f"{record.stem}.md").read_text(encoding="utf-8"), flush=True)


if __name__ == "__main__":
    main()
