"""Several processes: one curve, one writer, no hang."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForImageTextToText

from phisight.core.dataset_folder import METADATA
from phisight.core.recipe import changed, write_recipe
from phisight.core.run_folder import FOREIGN_IMAGES
from phisight.core.settings import LoraSettings, ModelSettings, Recipe
from phisight.data.dataset.foreign_images import read_foreign
from phisight.workflows.load import load_run
from phisight.workflows.train import train
from tests.helpers.answer_pairs import write_pairs
from tests.helpers.ranks import (
    PATIENCE,
    Child,
    assert_same_curve,
    at,
    fit_mixed,
    free_port,
    losses,
    together,
    train_as,
)
from tests.helpers.small_run import curve, weights


def weight_drift(one: Path, other: Path) -> torch.Tensor:
    """float64[all weights]: difference of the best models of two runs."""
    there = weights(other)
    return torch.cat([(value.double() - there[name].double()).flatten() for name, value in weights(one).items()])


def with_data(recipe: Recipe, folder: Path) -> Recipe:
    short = changed(recipe.evaluate, max_new_tokens=4)
    return recipe.model_copy(update={"data": changed(recipe.data, path=folder), "evaluate": short})


def with_validation_rows(data: Path, rows: int) -> None:
    """Leave so many rows in the validation split of a data set folder, with answers of very different lengths."""
    table = pq.read_table(data / METADATA)
    lines = [{**row, "split": row["split"].replace("validation", "train")} for row in table.to_pylist()]
    for number, row in enumerate([row for row in lines if row["split"] == "train"][:rows]):
        row["split"] = "validation"
        row["title"] += " and more" * (8 * number)
    pq.write_table(pa.Table.from_pylist(lines, table.schema), data / METADATA)


@pytest.fixture
def full(recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """Everything trains, on 17 rows: the last step of an epoch holds one, so that a process has none."""

    def build(batch_size: int, accumulate: int, **train: Any) -> Recipe:
        made = recipe(
            method="full", train_tower=True, batch_size=batch_size, accumulate=accumulate, log_every=1, **train
        )
        return made.model_copy(update={"data": changed(made.data, train_rows=17)})

    return build


def test_any_cut_of_a_step_gives_one_curve(child: Child, full: Callable[..., Recipe], tmp_path: Path) -> None:
    every = {"evaluate_every": None, "save_every": 6, "steps": 6}
    for name, (batch_size, accumulate) in {"whole": (8, 1), "halves": (4, 2), "pairs": (2, 4), "ones": (1, 8)}.items():
        train(at(full(batch_size, accumulate, **every), tmp_path / name))
    assert together(child, train_as, at(full(4, 1, **every), tmp_path / "ranks")) == [0, 0]
    assert together(child, train_as, at(full(4, 1, fsdp=True, **every), tmp_path / "shards")) == [0, 0]
    whole = losses(tmp_path / "whole")
    assert whole[-1] < whole[0]
    for name in ("halves", "pairs", "ones", "ranks", "shards"):
        assert_same_curve(losses(tmp_path / name), whole)
        norms = losses(tmp_path / name, "train/grad_norm"), losses(tmp_path / "whole", "train/grad_norm")
        torch.testing.assert_close(*norms, rtol=1e-3, atol=1e-4)
        drift = weight_drift(tmp_path / name, tmp_path / "whole")
        assert drift.abs().max() < 1e-4
        assert drift.mean().abs() < 1e-8
    for rank in range(2):  # separators and biases of odd length leave a little more than half
        assert 0.45 < float((tmp_path / f"shards.share-{rank}").read_text()) < 0.55
    checkpoint = tmp_path / "shards" / "checkpoints" / "checkpoint-6"
    loaded = AutoModelForImageTextToText.from_pretrained(checkpoint)  # strictly: every tensor, equal to the file
    best = AutoModelForImageTextToText.from_pretrained(tmp_path / "shards" / "best")
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, best.state_dict()[name])


@pytest.mark.parametrize(("fsdp", "rows"), [(False, 3), (True, 3), (False, 5)])
def test_validation_is_that_of_one_process(
    fsdp: bool, rows: int, child: Child, full: Callable[..., Recipe], own_data: Path, tmp_path: Path
) -> None:
    """Rows that two processes cannot share out evenly: each counts once, by its tokens. Answers agree, too."""
    with_validation_rows(own_data, rows)
    every = {"evaluate_every": 2, "save_every": 6, "steps": 6, "answer_rows": 2}
    for name, (batch_size, accumulate) in {"whole": (8, 1), "ones": (1, 8)}.items():
        train(with_data(at(full(batch_size, accumulate, **every), tmp_path / name), own_data))
    two = with_data(at(full(2, 2, fsdp=fsdp, **every), tmp_path / "two"), own_data)
    assert together(child, train_as, two) == [0, 0]
    whole = losses(tmp_path / "whole", "eval/loss")
    assert len(whole) == 3
    for name in ("ones", "two"):
        drift = losses(tmp_path / name, "eval/loss") - whole
        assert drift.abs().max() < 1e-5
        assert drift.mean().abs() < 5e-6
        answers = losses(tmp_path / name, "eval/title_edit_similarity")
        assert len(answers) == 4  # the first before any step
        torch.testing.assert_close(answers, losses(tmp_path / "whole", "eval/title_edit_similarity"))


@pytest.mark.parametrize(("fsdp", "objective"), [(False, "sft"), (True, "sft"), (False, "dpo")])
def test_foreign_images_are_those_of_one_process(
    fsdp: bool, objective: str, child: Child, full: Callable[..., Recipe], own_data: Path, tmp_path: Path
) -> None:
    """Drawn once, shown to the same examples: the curve of one process, which differs from one without them."""
    pairs = write_pairs(own_data, tmp_path / "pairs.jsonl") if objective == "dpo" else None
    every = {"evaluate_every": None, "save_every": 6, "steps": 6, "objective": objective, "numbers": "text"}

    def made(name: str, batch_size: int, *, share: float = 0.3, **train: Any) -> Recipe:
        found = with_data(
            at(full(batch_size, 1, abstain={"share": share}, **every, **train), tmp_path / name), own_data
        )
        return found.model_copy(update={"preference": changed(found.preference, pairs=pairs)})

    train(made("whole", 8))
    train(made("plain", 8, share=0.0))
    assert together(child, train_as, made("two", 4, fsdp=fsdp)) == [0, 0]
    drawn = [read_foreign(tmp_path / name / FOREIGN_IMAGES).rows for name in ("whole", "two")]
    assert drawn[0] == drawn[1]
    assert drawn[0]
    assert_same_curve(losses(tmp_path / "two"), losses(tmp_path / "whole"))
    assert (losses(tmp_path / "plain") - losses(tmp_path / "whole")).abs().max() > 1e-3


@pytest.mark.parametrize("fsdp", [False, True])
def test_a_batch_without_image_does_not_deadlock(
    fsdp: bool, child: Child, full: Callable[..., Recipe], tmp_path: Path
) -> None:
    """The curve of one process comes out, so the blank image that stands in changes nothing."""
    every = {"evaluate_every": None, "save_every": 12}
    assert together(child, fit_mixed, at(full(2, 1, **every), tmp_path / "one"), ranks=1) == [0]
    assert together(child, fit_mixed, at(full(1, 1, fsdp=fsdp, **every), tmp_path / "two")) == [0, 0]
    one, two = ([*map(float, (tmp_path / f"{n}.losses").read_text().split())] for n in ("one", "two"))
    assert_same_curve(torch.tensor(two), torch.tensor(one))


def test_features_are_stored_by_one_process(child: Child, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    wanted = recipe(accumulate=1, steps=4)
    wanted = wanted.model_copy(update={"data": changed(wanted.data, feature_cache_gb=1.0)})
    assert together(child, train_as, wanted) == [0, 0]
    assert len(list((tmp_path / "features").rglob("*.safetensors"))) == 24


def test_shards_go_on_where_they_stopped(child: Child, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    wanted, other = (at(recipe(accumulate=1, fsdp=True), tmp_path / name) for name in "ab")
    assert together(child, train_as, wanted) == [0, 0]
    port = free_port()
    processes = [child(train_as, rank, 2, port, other) for rank in range(2)]
    while not (other.out / "checkpoints" / "checkpoint-6").exists():
        assert all(process.is_alive() for process in processes)
        time.sleep(0.005)
    for process in processes:
        process.kill()
        process.join()
    assert together(child, train_as, other, resume=True) == [0, 0]
    assert curve(other.out) == curve(wanted.out)
    assert all(value.equal(weights(wanted.out)[name]) for name, value in weights(other.out).items())


@pytest.mark.parametrize(("first", "then", "fsdp"), [(1, 2, False), (2, 1, False), (2, 4, True), (4, 2, True)])
def test_another_number_of_processes_goes_on(
    first: int, then: int, fsdp: bool, child: Child, full: Callable[..., Recipe], tmp_path: Path
) -> None:
    """Steps of eight examples, cut among other processes after the sixth: the curve of one that never stopped."""
    every = {"evaluate_every": None, "save_every": 3, "steps": 12}
    train(at(full(8, 1, **every), tmp_path / "whole"))
    run = tmp_path / "run"
    port, begun = free_port(), at(full(8 // first, 1, fsdp=fsdp, **every), run)
    processes = [child(train_as, rank, first, port, begun) for rank in range(first)]
    while not (run / "checkpoints" / "checkpoint-6").exists():
        assert all(process.is_alive() for process in processes)
        time.sleep(0.005)
    for process in processes:
        process.kill()
        process.join()
    continued = at(full(8 // then, 1, fsdp=fsdp, **every), run)
    assert together(child, train_as, continued, ranks=then, resume=True) == [0] * then
    assert len(losses(run)) == 12
    assert_same_curve(losses(run), losses(tmp_path / "whole"))
    assert weight_drift(run, tmp_path / "whole").abs().max() < 1e-4


def test_adapters_in_shards_on_a_model_from_nothing(
    child: Child, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    """Their base lies nowhere on disk, so the best model is the merged one: that of a single process."""
    tiny = {"model": ModelSettings(name="tiny"), "lora": LoraSettings(rank=2)}
    every = {"learning_rate": 1e-3, "evaluate_every": None, "save_every": 4, "steps": 4, "numbers": "head"}
    whole = at(recipe(batch_size=2, accumulate=1, **every).model_copy(update=tiny), tmp_path / "whole")
    shards = at(recipe(batch_size=1, accumulate=1, fsdp=True, **every).model_copy(update=tiny), tmp_path / "shards")
    train(whole)
    assert together(child, train_as, shards) == [0, 0]
    assert weights(shards.out).keys() == weights(whole.out).keys()
    assert any("number_head" in name for name in weights(whole.out))
    assert weight_drift(shards.out, whole.out).abs().max() < 1e-4
    model, _, _ = load_run(shards.out)
    assert not hasattr(model, "peft_config")


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_ends_the_others(victim: int, child: Child, recipe: Callable[..., Recipe]) -> None:
    wanted = recipe(accumulate=1, steps=100_000, save_every=100_000, evaluate_every=None)
    port = free_port()
    processes = [child(train_as, rank, 2, port, wanted) for rank in range(2)]
    while not (wanted.out / "metrics.jsonl").exists():
        assert all(process.is_alive() for process in processes)
        time.sleep(0.01)
    processes[victim].kill()
    survivor = processes[1 - victim]
    survivor.join(PATIENCE)
    assert survivor.exitcode == 1
    told = (wanted.out.with_suffix(".errors") / str(1 - victim)).read_text()
    assert told.startswith("RankError: another process of the run ended or does not answer")
    assert told.endswith("then continue with --resume")
    assert "\n" not in told


def test_torchrun(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """The whole way from the shell: one process prints."""
    wanted = recipe(accumulate=1, steps=2)
    file = tmp_path / "recipe.yaml"
    file.write_text(write_recipe(wanted))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", str(free_port()), "-m", "phisight", "train", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Trained:") == 1
    assert done.stderr.count("Image check:") == 1
    assert [line["step"] for line in curve(wanted.out)] == [2, 2]


def test_sharding_needs_several(recipe: Callable[..., Recipe]) -> None:
    from phisight.core.errors import SettingsError

    with pytest.raises(SettingsError, match="torchrun"):
        train(recipe(fsdp=True))
