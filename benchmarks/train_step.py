"""Training steps of phisight against the plain way, in turn, in one run.

    python benchmarks/train_step.py [--quick] [--rounds N] [--cases lora,top,full] [--no-memory] [--json FILE]
    MICRO_BATCH=4 python benchmarks/train_step.py ...    phisight with other micro-batches (as the plain way: 1)
    COMPILE=1 python benchmarks/train_step.py ...        phisight with train.compile
    python benchmarks/train_step.py --checkout FOLDER --rounds 7    against another checkout of phisight

The plain way is transformers' Trainer over the same model: micro-batches of one example, logits at every place, crops
padded to the maximum, images read and the tower run in every step. It trains the same parameters in the same type and
takes an optimizer step after as many examples. Cases:

    lora        adapters on all layers; tower frozen, its features stored
    top         adapters on the top quarter of the layers; hidden states below them stored
    full        every weight, tower too
    full-mixed  every weight, where half of the images fill two crops of four
    bf16        adapters on all layers in bfloat16, against the plain way in float32
    bf16-own    the same, against phisight in float32

Model FLOP/s counts what the method's arithmetic asks for (crops in use, causal attention, the head at the answer), as a
share of the float32 or bfloat16 rate of a 2,048 x 2,048 matrix product, measured for two seconds before each round:
torch's, and beside it that of the product which phisight takes in float32 (oneDNN's on x86; in bfloat16 the two are
one). Memory is the resident set's peak above the loaded weights, of processes of their own, at the official vocabulary.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from checkouts import compare_checkouts
from loops import CASES, CPU_TIME, Case, Clock, step_phisight, step_plain, timer
from medium import OFFICIAL_VOCABULARY, VOCABULARY, catalogue, forward_work, make_examples, make_model, make_processor
from torch import Tensor

from phisight.model.loss import IGNORED
from phisight.train.acceleration.fused_linear import product

MATRIX = 2048


@dataclass
class Figures:
    """What one way took in the timed steps of all rounds."""

    seconds: list[float] = field(default_factory=list)
    samples: int = 0
    tokens: int = 0
    waited: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def add(self, clock: Clock, samples: int, tokens: int) -> None:
        """One more round."""
        self.seconds.append(clock.seconds)
        self.samples += samples
        self.tokens += tokens
        self.waited.append(clock.waited)
        self.losses += clock.losses

    def rates(self, flops: float, matrix_rate: float, faster: float) -> dict[str, float]:
        """Rates; ``flops`` is what one sample asks for."""
        whole = sum(self.seconds)
        return {
            "samples_per_s": self.samples / whole,
            "tokens_per_s": self.tokens / whole,
            "data_wait": sum(self.waited) / whole,
            "model_gflops": flops * self.samples / whole / 1e9,
            "share_of_matrix_rate": flops * self.samples / whole / matrix_rate,
            "share_of_own_matrix_rate": flops * self.samples / whole / faster,
        }


def matrix_rates(dtype: torch.dtype, seconds: float = 2.0) -> tuple[float, float]:
    """FLOP/s of a square matrix product, torch's and phisight's, in turn for some seconds: as long work gets them."""
    left, right = torch.randn(MATRIX, MATRIX, dtype=dtype), torch.randn(MATRIX, MATRIX, dtype=dtype)
    multiplied: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (torch.mm, product)
    took, times = [0.0, 0.0], 0
    for multiply in multiplied:
        multiply(left, right)
    while sum(took) < seconds:
        times += 1
        for way, multiply in enumerate(multiplied):
            start = timer()
            multiply(left, right)
            took[way] += timer() - start
    return 2.0 * MATRIX**3 * times / took[0], 2.0 * MATRIX**3 * times / took[1]


def flops_of(case: Case, rows: list[dict[str, Any]], examples: Any, *, plain: bool) -> float:
    """FLOPs that one sample asks for: forward, gradients of what lies above a trained weight, gradients of weights."""
    whole = 0.0
    for index, row in enumerate(rows):
        labels = examples[index]["labels"]
        work = forward_work(row, len(labels))
        head = work.head / len(labels) * int((labels != IGNORED).sum())
        if case.method == "full":
            whole += 3 * (work.tower + work.projector + work.decoder + head)
            continue
        above = work.decoder - case.from_layer * work.layer + head
        below = work.tower + work.projector + case.from_layer * work.layer
        stored = work.tower if case.from_layer == 0 else below
        whole += 2 * above + below - (0 if plain else stored)
        whole += work.projector if case.from_layer == 0 else 0  # adapters on the projector: its gradients too
    return 2.0 * whole / len(rows)


def compare(case: Case, steps: int, rounds: int, batch: int, folder: Path) -> dict[str, Any]:
    """Both loops in turn; a round is a warm-up step and ``steps`` timed ones."""
    rows = catalogue((steps + 1) * batch, case.images, folder)
    processor = make_processor(rows)
    examples = make_examples(rows, processor)
    contenders = {"plain": step_plain, "phisight": step_phisight}
    prepared, figures, rates = {}, {name: Figures() for name in contenders}, []
    for name, step in contenders.items():
        start = timer()
        prepared[name] = step(case, make_model(processor), processor, rows, batch, folder / name)
        if name == "phisight":
            prepared_in = timer() - start
    lengths = sum(examples.lengths) / len(examples.lengths)
    for _ in range(rounds):
        rates.append(matrix_rates(torch.bfloat16 if case.bf16 else torch.float32))
        for name, run in prepared.items():
            figures[name].add(run(steps + 1), steps * batch, round(steps * batch * lengths))
    rate, faster = (median(each) for each in zip(*rates, strict=True))
    result: dict[str, Any] = {
        "case": case.name,
        "tokens_per_sample": lengths,
        "batch": batch,
        "matrix_gflops": rate / 1e9,
        "matrix_gflops_of_phisight": faster / 1e9,
        "stored_before_s": prepared_in,
    }
    for name in contenders:
        flops = flops_of(case, rows, examples, plain=name == "plain")
        result[name] = figures[name].rates(flops, rate, faster) | {"losses": figures[name].losses[:8]}
    by_round = [a / b for a, b in zip(figures["plain"].seconds, figures["phisight"].seconds, strict=True)]
    result["ratio"] = result["phisight"]["samples_per_s"] / result["plain"]["samples_per_s"]
    result["ratio_of_rounds"] = [min(by_round), max(by_round)]
    return result


def memory(case: Case, way: str, vocabulary: int, batch: int) -> dict[str, float]:
    """Peak of the resident set above the loaded weights, bytes; meant for a process of its own."""
    from full_size import Memory

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows = catalogue(2 * batch, case.images, folder)
        processor = make_processor(rows)
        model = make_model(processor, vocabulary)
        run = (step_plain if way == "plain" else step_phisight)(case, model, processor, rows, batch, folder / way)
        weights = sum(parameter.nbytes for parameter in model.parameters())
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)  # what computing stored features left free would hide as much of the steps' memory
        watching = Memory(seconds=0.01)
        watching.reset()
        before = Memory.now()
        run(2)
        return {"above_weights": watching.peak - before, "weights": weights}


def memory_in_a_process(case: Case, way: str, vocabulary: int, batch: int) -> dict[str, float]:
    """``memory`` where nothing else has run."""
    child = [sys.executable, __file__, "--memory", json.dumps([case.name, way, vocabulary, batch])]
    done = subprocess.run(child, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def show(result: dict[str, Any]) -> None:
    """One line a way."""
    low, high = result["ratio_of_rounds"]
    print(
        f"{result['case']:11} {result['tokens_per_sample']:.0f} tokens a sample, {result['batch']} a step, matrix "
        f"product {result['matrix_gflops']:.0f} GFLOP/s by torch, {result['matrix_gflops_of_phisight']:.0f} by "
        f"phisight: {result['ratio']:.2f}x ({low:.2f} to {high:.2f} by round)"
    )
    for name in ("plain", "phisight"):
        one = result[name]
        print(
            f"   {name:9} {one['samples_per_s']:7.3f} samples/s {one['tokens_per_s']:8.0f} tokens/s   data wait "
            f"{one['data_wait']:6.2%}   {one['model_gflops']:6.0f} GFLOP/s = {one['share_of_matrix_rate']:.0%}, "
            f"{one['share_of_own_matrix_rate']:.0%}",
            flush=True,
        )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Training steps against the plain way")
    parser.add_argument("--quick", action="store_true", help="one round of one step: does it run at all?")
    parser.add_argument("--rounds", type=int, default=5, help="turns of both loops")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a round")
    parser.add_argument("--batch", type=int, default=4, help="examples of a step")
    parser.add_argument("--cases", default=",".join(CASES), help="which cases, with commas")
    parser.add_argument("--cpu-time", action="store_true", help="one thread, CPU time: for a machine with other work")
    parser.add_argument("--no-memory", action="store_true", help="leave memory out")
    parser.add_argument("--checkout", type=Path, help="compare with another checkout, not with the plain way")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.memory:
        name, way, vocabulary, batch = json.loads(asked.memory)
        print(json.dumps(memory(CASES[name], way, vocabulary, batch)))
        return
    if CPU_TIME:
        torch.set_num_threads(1)
    steps, rounds, batch = (1, 1, 2) if asked.quick else (asked.steps, asked.rounds, asked.batch)
    cases = [CASES[name] for name in asked.cases.split(",")]
    if asked.checkout:
        options = ["--cpu-time"] if asked.cpu_time else []
        found = [compare_checkouts(asked.checkout, case.name, steps, rounds, batch, options) for case in cases]
        if asked.json:
            asked.json.write_text(json.dumps(found))
        return
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for case in cases:
            results.append(compare(case, steps, rounds, batch, Path(temporary) / case.name))
            show(results[-1])
    for case, result in zip(cases, results, strict=True):
        if asked.no_memory or case.bf16 or case.images != "square":
            continue
        for vocabulary, size in ((VOCABULARY, batch), (OFFICIAL_VOCABULARY, 1)):
            peaks = {way: memory_in_a_process(case, way, vocabulary, size) for way in ("plain", "phisight")}
            plain, ours = (peaks[way]["above_weights"] for way in ("plain", "phisight"))
            result[f"memory_at_{vocabulary}"] = {"examples": size, **peaks, "ratio": ours / plain}
            print(
                f"{case.name:11} vocabulary {vocabulary:6,}, {size} examples: peak above the weights "
                f"{plain / 1e6:.0f} MB plain, {ours / 1e6:.0f} MB phisight: {ours / plain:.2f}x",
                flush=True,
            )
    if asked.json:
        about = {"machine": platform.machine(), "torch": torch.__version__, "threads": torch.get_num_threads()}
        asked.json.write_text(json.dumps({**about, "cases": [asdict(case) for case in cases], "results": results}))


if __name__ == "__main__":
    main()
