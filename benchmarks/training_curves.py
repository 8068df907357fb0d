"""Training curves and weights of this checkout against those of another one (an earlier commit), case by case.

    git worktree add ../f796ce0 f796ce0
    python benchmarks/training_curves.py --checkout ../f796ce0 [--cases full,ranks] [--steps 50] [--json FILE]

Both train the same small model on the same drawn images, by ``phisight train`` in processes of one thread. Compared are
every line of ``metrics.jsonl`` but what a clock measured, and every tensor of the best model: bit by bit for one
process; for ranks by the losses, each within 1e-5 (relative) and their mean within 1e-6: the order of sums differs.
Cases with a stop are killed by SIGTERM on the way and resumed. Exit status 1: a case differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parents[1]
RECORDED = "f796ce0"
"""The commit whose code draws the inputs (``tests/golden/record_folders.py --inputs``)."""
EACH, MEAN = 1e-5, 1e-6
"""How far losses of several ranks may lie apart, and their mean (relative)."""
CLOCKED = ("time", "data_wait", "per_second", "runtime")


@dataclass(frozen=True)
class Case:
    """A recipe by what it changes, on some ranks; ``stop``: the step after which it is stopped, then resumed."""

    train: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    lora: dict[str, Any] = field(default_factory=dict)
    ranks: int = 1
    stop: int | None = None


CACHED = {"feature_cache_gb": 1, "trunk_cache_gb": 1}
LORA = {"method": "lora"}
TOP = {"method": "lora", "from_layer": 1}
FULL = {"method": "full", "train_tower": True, "tower_learning_rate": 0.002}
ANSWERS = {"answer_rows": 3, "best": "category_accuracy", "evaluate_every": 20}
CASES = {
    "full": Case(FULL),
    "full_tower": Case({**FULL, "projector_learning_rate": 0.003}),
    "lora": Case(LORA, lora={"dropout": 0.1}),
    "lora_features": Case(LORA, CACHED),
    "projector": Case({"method": "projector"}, CACHED),
    "top_lora": Case(TOP, CACHED),
    "top_computed": Case(TOP),
    "top_full": Case({"method": "full", "from_layer": 1, "train_tower": False}, CACHED),
    "dora": Case({"method": "dora"}),
    "qlora": Case({"method": "qlora"}),
    "packed": Case({**LORA, "packing": True, "batch_size": 3}, CACHED),
    "packed_full": Case({**FULL, "packing": True, "batch_size": 3}),
    "two_images": Case(LORA, {"path": "data-two", "images": 2}),
    "two_images_features": Case(LORA, {"path": "data-two", "images": 2, **CACHED}),
    "two_images_top": Case(TOP, {"path": "data-two", "images": 2, **CACHED}),
    "number_head": Case({**LORA, "numbers": "head"}, CACHED),
    "number_head_full": Case({**FULL, "numbers": "head"}),
    "digit_weighted": Case({**LORA, "numbers": "digit_weighted"}),
    "bf16": Case({**LORA, "bf16": True}),
    "bf16_features": Case({**LORA, "bf16": True}, CACHED),
    "bf16_weights": Case({**FULL, "bf16": True}, model={"dtype": "bfloat16"}),
    "accumulate": Case({**FULL, "accumulate": 3}),
    "accumulate_lora": Case({**LORA, "accumulate": 3}, CACHED),
    "schedule": Case({**LORA, "schedule": "linear", "warmup": 0.2}),
    "epochs": Case({**LORA, "epochs": 2.5, "steps": None, "batch_size": 3}),
    "answers": Case({**LORA, **ANSWERS}),
    "patience": Case({**FULL, "learning_rate": 0.05, "evaluate_every": 5, "patience": 2}),
    "checkpointing": Case({**FULL, "gradient_checkpointing": True}),
    "compiled": Case({**LORA, "compile": True}),
    "crops": Case(FULL, model={"num_crops": 4}),
    "workers": Case(FULL, {"workers": 2}),
    "resumed": Case({**FULL, "save_every": 10}, stop=24),
    "ranks": Case(FULL, ranks=2),
    "ranks_lora": Case(LORA, CACHED, ranks=2),
    "ranks_accumulate": Case({**FULL, "accumulate": 3}, ranks=2),
    "ranks_answers": Case({**LORA, **ANSWERS}, ranks=2),
    "ranks_resumed": Case({**FULL, "save_every": 10}, ranks=2, stop=24),
    "fsdp": Case({**FULL, "fsdp": True}, ranks=2),
    "fsdp_lora": Case({**LORA, "fsdp": True}, CACHED, ranks=2),
    "fsdp_answers": Case({**FULL, **ANSWERS, "fsdp": True}, ranks=2),
    "fsdp_resumed": Case({**FULL, "fsdp": True, "save_every": 10}, ranks=2, stop=24),
}


def draw_inputs(other: Path, folder: Path) -> None:
    """The data sets and the model that every case starts from, drawn by the recorded commit's code."""
    script = HERE / "tests" / "golden" / "record_folders.py"
    run([sys.executable, str(script), str(folder), "--inputs"], other, folder.parent)


def environment(checkout: Path) -> dict[str, str]:
    """A process of one thread with the code of a checkout."""
    return {
        **os.environ,
        "PYTHONPATH": str(checkout / "src"),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def run(command: list[str], checkout: Path, folder: Path) -> None:
    """Run a command to its end; SystemExit with what it printed where it fails."""
    done = subprocess.run(command, env=environment(checkout), cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} in {checkout}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def write_recipe(case: Case, steps: int, folder: Path, out: Path) -> Path:
    """The recipe of a case in a file."""
    train = {"steps": steps, "batch_size": 2, "learning_rate": 0.005, "log_every": 1, "evaluate_every": 25}
    values: dict[str, Any] = {
        "out": str(out),
        "model": {"name": "model", **case.model},
        "data": {"path": "data", "feature_cache_gb": 0, "trunk_cache_gb": 0, **case.data},
        "train": {**train, "numbers": "text", **case.train},
        "lora": {"rank": 2, "alpha": 4, **case.lora},
        "evaluate": {"max_new_tokens": 64},
    }
    if case.data.get("feature_cache_gb"):
        values["data"]["feature_cache"] = f"{out}-features"
    path = folder / f"{out.name}.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def train_command(recipe: Path, ranks: int, *options: str) -> list[str]:
    """``phisight train``, with torchrun for several ranks."""
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    return [sys.executable, *several, "-m", "phisight", "train", str(recipe), *options]


def steps_done(out: Path) -> int:
    """Steps in a run's metrics so far."""
    path = out / "metrics.jsonl"
    return sum('"train/loss"' in line for line in path.read_text().splitlines()) if path.is_file() else 0


def stop_on_the_way(command: list[str], checkout: Path, folder: Path, out: Path, step: int) -> None:
    """Start a training, send SIGTERM to it and its ranks after a step, wait for its end."""
    process = subprocess.Popen(
        command,
        env=environment(checkout),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while steps_done(out) < step:
        if process.poll() is not None:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode} before step {step}")
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=120)


def train(name: str, side: str, checkout: Path, steps: int, folder: Path) -> dict[str, Any]:
    """One case with one checkout: its curve and its weights."""
    case = CASES[name]
    out = Path(f"{name}-{side}")
    recipe = write_recipe(case, steps, folder, out)
    command = train_command(recipe, case.ranks)
    if case.stop is not None:
        stop_on_the_way(command, checkout, folder, folder / out, min(case.stop, steps - 1))
        command.append("--resume")
    run(command, checkout, folder)
    return {"curve": curve(folder / out), "weights": weights(folder / out / "best")}


def curve(out: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl without what a clock measured."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if not any(name in key for name in CLOCKED)} for line in lines]


def weights(folder: Path) -> dict[str, str]:
    """SHA-256 of every tensor of the best model."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, value in load_file(path).items():
            digest = hashlib.sha256(value.contiguous().flatten().view(-1).float().numpy().tobytes()).hexdigest()
            found[f"{path.name}:{name}"] = digest
    return found


def losses(found: dict[str, Any]) -> list[float]:
    """Training losses by step."""
    return [line["train/loss"] for line in found["curve"] if "train/loss" in line]


def verdict(case: Case, old: dict[str, Any], new: dict[str, Any]) -> tuple[bool, str]:
    """Whether a case holds, and what was seen."""
    pairs = list(zip(losses(old), losses(new), strict=True))
    apart = max(abs(a - b) / max(abs(a), 1e-12) for a, b in pairs)
    mean = abs(fmean(b - a for a, b in pairs)) / fmean(abs(a) for a, _ in pairs)
    same_curve, same_weights = old["curve"] == new["curve"], old["weights"] == new["weights"]
    if same_curve and same_weights:
        return True, f"equal, bit by bit: {len(pairs)} steps, {len(old['weights'])} tensors"
    seen = f"losses within {apart:.1e}, mean {mean:.1e}; curve {same_curve}, weights {same_weights}"
    return case.ranks > 1 and apart <= EACH and mean <= MEAN, seen


def main() -> None:
    """Train each case with both checkouts; print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkout", type=Path, required=True, help=f"the other checkout ({RECORDED} draws the inputs)"
    )
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(asked.jobs) as both:
        inputs = Path(temporary) / "inputs"
        draw_inputs(asked.checkout.resolve(), inputs)
        for name in asked.cases.split(","):
            sides = {"old": asked.checkout.resolve(), "new": HERE}
            runs = {side: both.submit(train, name, side, path, asked.steps, inputs) for side, path in sides.items()}
            holds, seen = verdict(CASES[name], runs["old"].result(), runs["new"].result())
            results[name] = {"holds": holds, "seen": seen}
            print(f"{name:20} {'ok' if holds else 'DIFFERS':8} {seen}", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    sys.exit(0 if all(one["holds"] for one in results.values()) else 1)


if __name__ == "__main__":
    main()
