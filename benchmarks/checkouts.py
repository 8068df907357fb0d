"""Training steps of this checkout and of another one (an earlier commit) in turn: ``train_step.py --checkout FOLDER``.

Each checkout runs in a process of its own with its own ``src`` and ``benchmarks`` and prepares the case once; a round
is one warm-up step and some timed ones of each. So both see the same machine at nearly the same time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parents[1]
RUNNER = """
import sys, tempfile
from pathlib import Path
case, steps, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sys.argv = sys.argv[:1] + sys.argv[4:]
import torch
from medium import catalogue, make_model, make_processor
try:
    from loops import CASES, CPU_TIME, step_phisight
except ImportError:  # checkouts from before the renaming
    from ways import CASES, CPU_TIME, step_phisight
if CPU_TIME:
    torch.set_num_threads(1)
with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary)
    shapes = next(value for value in vars(CASES[case]).values() if value in ("square", "mixed"))
    rows = catalogue((steps + 1) * batch, shapes, folder)
    processor = make_processor(rows)
    run = step_phisight(CASES[case], make_model(processor), processor, rows, batch, folder / "out")
    print("READY", flush=True)
    for _ in sys.stdin:
        clock = run(steps + 1)
        print("ROUND", clock.seconds, *clock.losses, flush=True)
"""


class Checkout:
    """A process that runs rounds of one case with the code of a checkout."""

    def __init__(self, folder: Path, case: str, steps: int, batch: int, options: list[str]) -> None:
        paths = os.pathsep.join(str(folder / part) for part in ("src", "benchmarks"))
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUNNER, case, str(steps), str(batch), *options],
            env={**os.environ, "PYTHONPATH": paths},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._line("READY")

    def _line(self, kind: str) -> list[float]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(kind):
                return [float(value) for value in line.split()[1:]]
        raise SystemExit(f"a checkout ended with {self._process.wait()} before it printed {kind}")

    def round(self) -> tuple[float, list[float]]:
        """Seconds of the timed steps, and their losses."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        seconds, *losses = self._line("ROUND")
        return seconds, losses

    def end(self) -> None:
        """Let it go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compare_checkouts(
    other: Path, case: str, steps: int, rounds: int, batch: int, options: list[str]
) -> dict[str, Any]:
    """Both in turn; the ratio is new time / old time, below 1 where this checkout is faster."""
    old, new = (Checkout(folder.resolve(), case, steps, batch, options) for folder in (other, HERE))
    seconds: dict[str, list[float]] = {"old": [], "new": []}
    losses = {}
    for _ in range(rounds):
        for name, checkout in (("old", old), ("new", new)):
            took, losses[name] = checkout.round()
            seconds[name].append(took)
    for checkout in (old, new):
        checkout.end()
    ratios = [after / before for before, after in zip(seconds["old"], seconds["new"], strict=True)]
    result = {"case": case, "ratio": median(ratios), "range": [min(ratios), max(ratios)], "seconds": seconds}
    same = losses["old"] == losses["new"]
    print(
        f"{case:11} new / old time: median of {rounds} rounds {result['ratio']:.3f} ({min(ratios):.3f} to "
        f"{max(ratios):.3f}); losses {'equal' if same else 'differ'}",
        flush=True,
    )
    return {**result, "losses_equal": same}
