"""Record what phisight wrote at commit f796ce0: a data set, a model and run folders, all very small.

    git worktree add ../f796ce0 f796ce0
    OMP_NUM_THREADS=1 PYTHONPATH=../f796ce0/src python record_folders.py OUT            the folders below
    ... python record_folders.py OUT --inputs    the same for what benchmarks/training_curves.py trains on

It runs at f796ce0 and nowhere else: later code must open what it left here, so nothing is ever recorded anew with it.
All paths within are relative to OUT, so whoever opens the folders copies them and makes the copy the working folder.

    data/           16 drawn products in three splits        model/      the model that every run starts from
    full/           every weight and the vision tower; last checkpoint kept
    lora/           adapters with dropout, number head, tower features in features/; last checkpoint kept
    projector/      image projection only; last checkpoint kept
    top/            adapters on the upper layer, hidden states in features/trunk/; no checkpoint
    stopped/        as full; power failed after step 8 of 12: checkpoint of step 5 (within an epoch), metrics to step 7
    stopped-lora/   adapters, digits weighted, a line every two steps; SIGTERM in step 5 of 12: checkpoint of step 5
    stopped-ranks/  as stopped-lora without accumulation on two ranks (DDP); power failed after step 8, checkpoint 5
    stopped-shards/ the same with train.fsdp: the optimizer's state goes by names of parameters
    evaluated/      every weight for 120 steps with answers on the way, then evaluated on the training split, with
                    intervals: scores.json, predictions.parquet
    expected.json   resumed: curve, figures and weights that the stopped runs end with, on as many ranks as they had;
                    weights: of every run's best model; answers: of each run about the images of the test split

Left out of what was written: PEFT's README.md (also from the manifests), report.html, older checkpoints. The scores of
evaluated/ come from `evaluate_run` with the run's own settings, so a copy can be evaluated again and compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

COMMIT = "f796ce0"
FEW = 4
"""Values of each tensor that stand in expected.json beside its hash."""


class PowerCutError(Exception):
    """Nothing catches it."""


class Interrupt:
    """Lets a run go to a step, then ends it: by an error that nobody handles, or by a signal to this process."""

    def __init__(self, last: int, number: int | None = None) -> None:
        self.last = last
        self.number = number

    def begin(self, steps: int) -> None:
        """Of no concern here."""

    def step(self, step: int) -> None:
        """Called after each step."""
        if step == self.last and self.number is None:
            raise PowerCutError
        if step == self.last and self.number is not None:
            os.kill(os.getpid(), self.number)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Of no concern here."""


def old(module: str, name: str) -> Any:
    """A function of the recorded commit, whose modules later code does not have."""
    return getattr(import_module(f"phisight.{module}"), name)


def require_commit() -> Path:
    """The checkout that phisight comes from; SystemExit where it is not the recorded commit."""
    root = Path(import_module("phisight").__file__ or ".").parents[2]
    found = subprocess.run(["git", "-C", root, "describe", "--always", "--dirty"], capture_output=True, text=True)
    if found.stdout.strip() != COMMIT:
        raise SystemExit(f"phisight comes from {root} at {found.stdout.strip() or 'no commit'}; it must be {COMMIT}")
    return root


def draw(folder: Path, rows: int, seed: int, smallest: int, largest: int) -> None:
    """A data set of drawn products with small images."""
    settings = old("sample.settings", "preset")("demo", smallest=smallest, largest=largest, quality=80)
    old("sample.catalogue", "make")(rows, folder, seed=seed, settings=settings, overwrite=True)


def split_again(folder: Path, splits: Mapping[str, tuple[int, ...]]) -> None:
    """Give designs by number another split than drawn; of so few rows none is large enough otherwise."""
    of_design = {f"design-{number:07d}": split for split, numbers in splits.items() for number in numbers}
    table = pq.read_table(folder / "metadata.parquet")
    lines = [{**row, "split": of_design.get(row["group"], "train")} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(lines, table.schema), folder / "metadata.parquet")
    card = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    card["splits"] = {name: sum(row["split"] == name for row in lines) for name in ("train", "validation", "test")}
    (folder / "dataset.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def with_two_images(data: Path, folder: Path) -> None:
    """The same images with every two of a split as one product, whose fields are those of the first."""
    shutil.copytree(data, folder)
    table = pq.read_table(data / "metadata.parquet")
    of_the_image = ("file_name", "image_sha256", "image_width", "image_height")
    first: dict[str, dict[str, Any]] = {}
    lines = []
    for row in table.to_pylist():
        owner = first.pop(row["split"], None)
        if owner is None:
            first[row["split"]] = row
        else:
            row = {**owner, **{name: row[name] for name in of_the_image}}
        lines.append(row)
    pq.write_table(pa.Table.from_pylist(lines, table.schema), folder / "metadata.parquet")


def save_model(data: Path, folder: Path, *, width: int, layers: int, crop: int, tower: int) -> None:
    """A model of some ten thousand weights whose tokenizer knows the data set's texts."""
    opened = old("data.folder", "DatasetFolder").open(data)
    texts = [opened.task.prompt, *(opened.task.render(row) for row in opened.rows("train"))]
    tokenizer = old("model.tiny", "train_tokenizer")(texts, 340)
    images = old("model", "Phi3VImageProcessor")(num_crops=1, crop_size=crop)
    processor = old("model", "Phi3VProcessor")(images, tokenizer)
    vision = {
        "hidden_size": tower,
        "intermediate_size": 2 * tower,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": crop,
        "patch_size": 14,
        "projection_dim": tower,
    }
    decoder = {"hidden_size": width, "intermediate_size": 3 * width // 2, "num_hidden_layers": layers}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    config = old("model.tiny", "tiny_config")(tokenizer, vision_config=vision, **decoder, **heads)
    model = old("model.tiny", "tiny_model")(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(4)  # drawn so small, all images would get one answer
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def recipe(out: str, train: Mapping[str, Any], **groups: Any) -> Any:
    """A short run; relative paths, so that nothing of this machine is written down."""
    every = {"steps": 8, "batch_size": 2, "accumulate": 2, "learning_rate": 0.01, "log_every": 1, "evaluate_every": 4}
    values = {
        "out": out,
        "model": {"name": "model"},
        "data": {"path": "data", "feature_cache_gb": 0, "trunk_cache_gb": 0, **groups.get("data", {})},
        "train": {**every, "numbers": "text", **train},
        "lora": {"rank": 2, "alpha": 4, "dropout": 0.1},
        "evaluate": {"max_new_tokens": 64, "constrained": True, "split": "train", "coverage": 0.5},
    }
    return old("core.recipe", "recipe_from")(values)


CACHED = {"feature_cache_gb": 1, "trunk_cache_gb": 1}
FULL = {"method": "full", "train_tower": True, "tower_learning_rate": 0.002}
LONGER = {"steps": 12, "evaluate_every": 5, "save_every": 5}
DIGITS = {"method": "lora", "numbers": "digit_weighted", "steps": 12, "evaluate_every": 5, "log_every": 2}
WHOLE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "full": (FULL, {}),
    "lora": ({"method": "lora", "numbers": "head"}, CACHED),
    "projector": ({"method": "projector"}, {}),
    "top": ({"method": "lora", "from_layer": 1, "numbers": "head"}, CACHED),
    "evaluated": (
        {**FULL, "numbers": "head", "steps": 120, "evaluate_every": 60, "log_every": 10, "answer_rows": 2},
        {},
    ),
}
ALONE = {**DIGITS, "accumulate": 1, "save_every": 5}
STOPPED: dict[str, tuple[dict[str, Any], Interrupt]] = {
    "stopped": ({**FULL, **LONGER}, Interrupt(8)),
    "stopped-lora": (DIGITS, Interrupt(5, signal.SIGTERM)),
    "stopped-ranks": (ALONE, Interrupt(8)),
    "stopped-shards": ({**ALONE, "fsdp": True}, Interrupt(8)),
}


RANKS = {"stopped-ranks": 2, "stopped-shards": 2}


def train(made: Any, **options: Any) -> None:
    """Train as ``phisight train`` does; environment.json names a command line of that form."""
    sys.argv = ["phisight", "train", f"{made.out}.yaml", *(["--resume"] if options.get("resume") else [])]
    old("pipelines.training", "train")(made, **options)


def on_ranks(ranks: int, function: Callable[..., None], *arguments: Any, **options: Any) -> None:
    """Run a function once, or as so many ranks that are told who they are as torchrun tells it."""
    if ranks == 1:
        function(*arguments, **options)
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])

    def become(rank: int) -> None:
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
        os.environ.update(place, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        function(*arguments, **options)

    processes = [multiprocessing.get_context("fork").Process(target=become, args=(rank,)) for rank in range(ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit(f"ranks ended with {[process.exitcode for process in processes]}")


def interrupt(made: Any, when: Interrupt) -> None:
    """Train until it is interrupted."""
    expected = tuple(old("core.errors", name) for name in ("StoppedError", "RankError"))
    try:
        train(made, progress=when)
    except (PowerCutError, *expected) as error:
        print(f"{made.out}: {error!r}", flush=True)
    else:
        raise SystemExit(f"{made.out} ended without a stop")
    if "RANK" in os.environ:
        os._exit(0)  # the group of ranks is torn: nothing may wait for it


def keep_newest_checkpoint(run: Path) -> None:
    """Delete all but the newest checkpoint and the best one."""
    found = sorted((run / "checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[1]))
    best = json.loads((found[-1] / "trainer_state.json").read_text()).get("best_model_checkpoint")
    for folder in found[:-1]:
        if folder.name != Path(best or "").name:
            shutil.rmtree(folder)


def forget(path: Path) -> None:
    """Delete a file, also from the manifest of its checkpoint."""
    path.unlink()
    manifest = path.with_name("manifest.json")
    if manifest.is_file():
        listed = json.loads(manifest.read_text(encoding="utf-8"))
        del listed["files"][path.name]
        manifest.write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")


def curve(run: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl without what a clock measured; the numbers are exact."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in ("time", "train/data_wait")} for line in lines]


def weights(folder: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 of every tensor's float32 bytes by file and name, and its first few values."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, value in sorted(load_file(path).items()):
            flat = value.to(torch.float32).flatten().contiguous()
            digest = hashlib.sha256(flat.numpy().tobytes()).hexdigest()
            found[f"{path.name}:{name}"] = {"sha256": digest, "shape": [*value.shape], "first": flat[:FEW].tolist()}
    return found


def resumed(name: str) -> dict[str, Any]:
    """How a copy of a stopped run ends when the recorded commit resumes it; the undisturbed run must end alike."""
    shutil.copytree(name, f"{name}-resumed")
    ranks, settings = RANKS.get(name, 1), STOPPED[name][0]
    on_ranks(ranks, train, recipe(f"{name}-resumed", settings), resume=True)
    on_ranks(ranks, train, recipe(f"{name}-whole", settings))
    runs = [Path(f"{name}-resumed"), Path(f"{name}-whole")]
    ended = [{"curve": curve(run), "best": weights(run / "best")} for run in runs]
    if ended[0] != ended[1]:
        raise SystemExit(f"{name}: the resumed run and the undisturbed one differ")
    summary = json.loads((runs[0] / "summary.json").read_text())["summary"]
    for run in runs:
        shutil.rmtree(run)
    timed = ("runtime", "per_second", "data_wait", "flos")
    return {**ended[0], "summary": {key: value for key, value in summary.items() if not any(t in key for t in timed)}}


def answers(run: str, images: list[Path]) -> list[dict[str, Any]]:
    """What ``phisight predict`` answers."""
    found: Iterator[Any] = old("pipelines.answering", "predict")(Path(run), images)
    return [
        {"image": str(image), "answer": one.text, "fields": one.values, "reason": one.reason} for image, one in found
    ]


def one_a_line(value: Any, depth: int = 3) -> str:
    """JSON whose entries stand in lines of their own down to a depth."""
    if depth == 0 or not isinstance(value, dict):
        return json.dumps(value)
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {one_a_line(one, depth - 1)}" for key, one in value.items()) + "\n}"


def record(out: Path, root: Path) -> None:
    """Write all folders and expected.json into ``out``."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    os.chdir(out)
    os.environ.update(GIT_DIR=str(root / ".git"), GIT_WORK_TREE=str(root))
    platform.platform = lambda *_, **__: "Linux"  # the kernel's build says where this ran
    draw(Path("data"), 16, 11, 40, 60)
    split_again(Path("data"), {"validation": (2, 6), "test": (4, 8, 9)})
    save_model(Path("data"), Path("model"), width=16, layers=2, crop=56, tower=8)
    for name, (settings, data) in WHOLE.items():
        train(recipe(name, settings, data=data))
        keep_newest_checkpoint(Path(name))
    for name in ("top", "evaluated"):
        shutil.rmtree(f"{name}/checkpoints")
    for name, (settings, when) in STOPPED.items():
        on_ranks(RANKS.get(name, 1), interrupt, recipe(name, settings), when)
        keep_newest_checkpoint(Path(name))
    old("pipelines.answering", "evaluate_run")(Path("evaluated"))
    for path in [*Path().rglob("README.md")]:
        forget(path)
    test = [row for row in pq.read_table("data/metadata.parquet").to_pylist() if row["split"] == "test"]
    images = [Path("data") / row["file_name"] for row in test]
    expected = {
        "commit": COMMIT,
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "resumed": {name: resumed(name) for name in STOPPED},
        "weights": {name: weights(Path(name) / "best") for name in WHOLE},
        "answers": {name: answers(name, images) for name in WHOLE},
    }
    Path("expected.json").write_text(one_a_line(expected) + "\n", encoding="utf-8")


def record_inputs(out: Path) -> None:
    """Write the data sets and the model that benchmarks/training_curves.py trains on."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    os.chdir(out)
    draw(Path("data"), 30, 11, 90, 150)
    with_two_images(Path("data"), Path("data-two"))
    save_model(Path("data"), Path("model"), width=32, layers=3, crop=112, tower=16)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--inputs", action="store_true")
    given = parser.parse_args()
    checkout = require_commit()
    torch.set_num_threads(1)
    if given.inputs:
        record_inputs(given.out)
    else:
        record(given.out, checkout)
