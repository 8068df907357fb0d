"""A preference training on two processes, whole and in shards, has the curve of one."""

from collections.abc import Callable
from pathlib import Path

import torch

from phisight.core.recipe import changed
from phisight.core.settings import LoraSettings, Recipe
from tests.helpers.answer_pairs import write_pairs
from tests.helpers.ranks import Child, assert_same_curve, at, losses, together, train_as

FIGURES = ("reward_margin", "chosen_log_probability", "kl", "grad_norm", "image_reward_accuracy")


def test_two_processes_have_the_curve_of_one(
    child: Child, recipe: Callable[..., Recipe], data: Path, tmp_path: Path
) -> None:
    """17 pairs in two epochs: the last step of each holds one, so that a process has a dummy pair."""
    lines = write_pairs(data, tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()[:17]
    assert len(lines) == 17
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def of(name: str, batch_size: int, *, fsdp: bool = False) -> Recipe:
        every = {"steps": 6, "log_every": 1, "evaluate_every": None, "save_every": None}
        made = recipe(objective="dpo", numbers="text", batch_size=batch_size, accumulate=1, fsdp=fsdp, **every)
        preference = changed(made.preference, pairs=tmp_path / "pairs.jsonl")
        lora = LoraSettings(rank=2, dropout=0.0)
        return at(made.model_copy(update={"preference": preference, "lora": lora}), tmp_path / name)

    assert together(child, train_as, of("whole", 8), ranks=1) == [0]
    assert together(child, train_as, of("ranks", 4)) == [0, 0]
    assert together(child, train_as, of("shards", 4, fsdp=True)) == [0, 0]
    whole = tmp_path / "whole"
    assert losses(whole)[3] < losses(whole)[0]  # the first step of either epoch
    for name in ("ranks", "shards"):
        assert_same_curve(losses(tmp_path / name), losses(whole))
        for figure in FIGURES:
            one, other = losses(tmp_path / name, f"train/{figure}"), losses(whole, f"train/{figure}")
            torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3)
