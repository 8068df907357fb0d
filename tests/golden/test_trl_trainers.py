"""TRL's own trainers train phisight's model for a step, on pairs and prompts as TRL's documents write them.

``make parity-trl`` runs it in an environment of its own; TRL is no dependency of phisight.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from phisight.data.dataset.preference_pairs import CHOSEN, PROMPT, REJECTED
from phisight.model import Phi3VisionForConditionalGeneration, Phi3VProcessor
from tests.golden import record_trl
from tests.helpers import small_model

pytestmark = pytest.mark.filterwarnings("default")  # those of TRL and its libraries are not this project's
trl = pytest.importorskip("trl", reason="TRL is not installed: make parity-trl runs this in its own environment")

SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-2,
    "max_steps": 1,
    "logging_steps": 1,
    "use_cpu": True,
    "bf16": False,
    "activation_checkpointing": False,
    "report_to": [],
    "save_strategy": "no",
    "remove_unused_columns": False,
}


def said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def conversations() -> list[dict[str, Any]]:
    """Pairs as messages; TRL puts the image into the first message itself."""
    return [
        {
            "images": [image],
            "prompt": said("user", row[PROMPT]),
            "chosen": said("assistant", row[CHOSEN]),
            "rejected": said("assistant", row[REJECTED]),
        }
        for image, row in zip(record_trl.images(), record_trl.rows(), strict=True)
    ]


def trained(trainer: Any) -> dict[str, float]:
    """One step: the last line of the log. Weights of decoder, projector and head have moved and are finite."""
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert all(bool(torch.isfinite(value).all()) for value in trainer.model.parameters())
    for part in ("model.layers.0.", "img_projection", "img_processor", "lm_head"):
        assert any(part in name for name in moved), part
    (line,) = (line for line in trainer.state.log_history if "loss" in line)
    return dict(line)


def test_dpo_trains_a_step(tmp_path: Path) -> None:
    from datasets import Dataset

    settings = trl.DPOConfig(output_dir=str(tmp_path), per_device_train_batch_size=3, max_length=None, **SETTINGS)
    trainer = trl.DPOTrainer(
        model=record_trl.policy(),
        ref_model=small_model.model(),
        args=settings,
        train_dataset=Dataset.from_list(conversations()),
        processing_class=small_model.processor(record_trl.NUM_CROPS),
    )
    line = trained(trainer)
    assert line["rewards/margins"] != 0
    assert 0 < line["loss"] < 100


@pytest.mark.parametrize("written", ["messages", "text"])
def test_the_collator_adds_no_bos(written: str) -> None:
    from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

    processor = small_model.processor(record_trl.NUM_CROPS)
    pairs = conversations() if written == "messages" else record_trl.texts(processor)
    batch = DataCollatorForVisionPreference(processor)(pairs)
    expected = 0 if written == "messages" else 2  # those that the text itself holds: see record_trl.texts
    assert batch["input_ids"].eq(processor.tokenizer.bos_token_id).sum(1).tolist() == [expected] * 6
    first = batch["completion_mask"].argmax(1)
    for row, (start, ids) in enumerate(zip(first.tolist(), batch["input_ids"].tolist(), strict=True)):
        expected_text = record_trl.rows()[row % 3][CHOSEN if row < 3 else REJECTED]
        assert processor.tokenizer.decode(ids[start:]).startswith(expected_text + "<|end|>")


def test_grpo_trains_a_step(tmp_path: Path) -> None:
    """Two answers to each of two prompts, judged by how many letters they hold."""
    from datasets import Dataset

    asked: list[str] = []

    def reward(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
        texts = [one if isinstance(one, str) else one[0]["content"] for one in completions]
        asked.extend(map(str, prompts))
        return [float(sum(char.isalpha() for char in text)) for text in texts]

    settings = trl.GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=6,
        beta=0.1,
        seed=1,
        **SETTINGS,
    )
    rows = [{"image": one["images"][0], "prompt": one["prompt"]} for one in conversations()[:2]]
    record_trl.policy().save_pretrained(tmp_path / "model")
    small_model.processor(record_trl.NUM_CROPS).save_pretrained(tmp_path / "model")
    trainer = trl.GRPOTrainer(
        model=Phi3VisionForConditionalGeneration.from_pretrained(tmp_path / "model", dtype=torch.float32),
        reward_funcs=reward,
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=Phi3VProcessor.from_pretrained(tmp_path / "model"),
    )
    line = trained(trainer)
    assert len(asked) == 4
    assert line["reward_std"] > 0
