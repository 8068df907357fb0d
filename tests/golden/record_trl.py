"""Record TRL's DPO on pairs of the small model: ``make parity-trl`` runs it, ``--write`` writes trl.safetensors.

TRL's trainer and TRL's vision collator get the pairs as text and images; one pair is a batch, the learning rate is 0,
so every pair meets the same weights. Stored of each: ids, loss, rewards, log-probabilities and gradients.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from phisight.core.dataset_folder import GROUP, HEIGHT, SHA256, WIDTH
from phisight.data.dataset.preference_pairs import CHOSEN, PROMPT, REJECTED
from phisight.train.examples.dataset import ExampleSet
from phisight.train.examples.pair_set import PairSet
from phisight.train.examples.tokenize import TURN_END, prompt_text
from tests.helpers import small_model
from tests.helpers.training_examples import TASK

RECORDED = Path(__file__).with_name("trl.safetensors")
COMMAND = "make parity-trl TRL_ARGS=--write"
TRL, NUM_CROPS, BETA = "1.16.0", 4, 0.3
LOSSES = {"sigmoid": False, "sigmoid_norm": True}
"""TRL's names of the loss, and whether log-probabilities are divided by the tokens of their answer."""
GRADIENTS_OF = (
    "model.norm.weight",
    "model.layers.1.mlp.down_proj.weight",
    "model.vision_embed_tokens.sub_GN",
    "model.vision_embed_tokens.img_projection.0.bias",
)
"""Gradients that are stored whole; of all others the norms."""
FIGURES = ("loss", "rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected")
SIZES = ((160, 100), (60, 150), (90, 90))
ANSWERS = (("Product: Scarf, 20", "Product: Shoe, 20"), ("a", "a long, long answer"), ("Bag 9.99", "no"))


def images() -> list[Any]:
    """An image for each pair."""
    return [small_model.image(seed, *size) for seed, size in enumerate(SIZES)]


def rows() -> list[dict[str, Any]]:
    """The pairs as a data set's rows."""
    return [
        {
            SHA256: f"{index:064d}",
            GROUP: str(index),
            WIDTH: size[0],
            HEIGHT: size[1],
            PROMPT: "What is it?",
            CHOSEN: chosen,
            REJECTED: rejected,
            "index": index,
        }
        for index, (size, (chosen, rejected)) in enumerate(zip(SIZES, ANSWERS, strict=True))
    ]


def pair_set(processor: Any) -> PairSet:
    """The pairs as phisight trains on them."""
    shown = images()

    def load(row: Mapping[str, Any]) -> Any:
        return shown[row["index"]]

    made = rows()
    return PairSet(made, ExampleSet(made, load, processor, TASK, num_crops=NUM_CROPS))


@torch.no_grad()
def policy() -> Any:
    """The small model, moved: else every reward is 0."""
    model, draw = small_model.model(), np.random.RandomState(3)
    for _, parameter in sorted(model.named_parameters()):
        spread = float(parameter.std()) if parameter.numel() > 1 else 1.0
        parameter += torch.from_numpy(draw.standard_normal(tuple(parameter.shape)) * 0.05 * spread)
    return model


def texts(processor: Any) -> list[dict[str, Any]]:
    """The pairs in TRL's columns; BOS is written where the published format has it: TRL asks for none."""
    return [
        {
            "images": [image],
            "prompt": "<s>" + prompt_text(processor, row[PROMPT]).replace("<|image_1|>", "<|image_1|><s>"),
            "chosen": row[CHOSEN] + TURN_END,
            "rejected": row[REJECTED] + TURN_END,
        }
        for image, row in zip(images(), rows(), strict=True)
    ]


def record(loss: str) -> dict[str, Tensor]:
    """What TRL computes of each pair."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

    processor = small_model.processor(NUM_CROPS)
    seen: list[dict[str, Tensor]] = []

    class Gradients(TrainerCallback):
        def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
            seen.append({name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None})

    with tempfile.TemporaryDirectory() as folder:
        settings = DPOConfig(
            output_dir=folder,
            beta=BETA,
            loss_type=[loss],
            learning_rate=0.0,
            weight_decay=0.0,
            max_grad_norm=0.0,
            per_device_train_batch_size=1,
            num_train_epochs=1,
            logging_steps=1,
            max_length=None,
            train_sampling_strategy="sequential",
            activation_checkpointing=False,
            bf16=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            remove_unused_columns=False,
        )
        pairs = texts(processor)
        trainer = DPOTrainer(
            model=policy(),
            ref_model=small_model.model(),
            args=settings,
            train_dataset=Dataset.from_list(pairs),
            processing_class=processor,
            callbacks=[Gradients()],
        )
        trainer.model.eval()
        trainer.train()
    lines = [line for line in trainer.state.log_history if "rewards/chosen" in line]
    assert len(lines) == len(seen) == len(pairs), (len(lines), len(seen), len(pairs))
    collate = DataCollatorForVisionPreference(processor)
    found = {f"{loss}:{name}": torch.tensor([line[name] for line in lines], dtype=torch.float32) for name in FIGURES}
    for index, gradients in enumerate(seen):
        batch = collate([pairs[index]])
        found[f"{loss}:{index}:input_ids"] = batch["input_ids"].int()
        found[f"{loss}:{index}:completion_mask"] = batch["completion_mask"].int()
        norms = [gradients[name].double().norm() for name in sorted(gradients)]
        found[f"{loss}:{index}:gradient_norms"] = torch.stack(norms).float()
        found |= {f"{loss}:{index}:gradient/{name}": gradients[name] for name in GRADIENTS_OF}
    return {name: value.contiguous().clone() for name, value in found.items()}


def load() -> tuple[dict[str, Tensor], dict[str, str]]:
    """The recorded tensors, and with which versions and command."""
    with safe_open(RECORDED, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["about"])  # noqa: SIM118


def main() -> None:
    """Compare what TRL computes with the file, or write it."""
    import transformers
    import trl

    if trl.__version__ != TRL:
        sys.exit(f"TRL {trl.__version__} is installed and the file is of {TRL}; run {COMMAND}")
    found = {name: value for loss in LOSSES for name, value in record(loss).items()}
    about = {
        "command": COMMAND,
        "trl": trl.__version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }
    if "--write" in sys.argv[1:]:
        save_file(found, RECORDED, metadata={"about": json.dumps(about)})
        print(f"{RECORDED.name}: {len(found)} tensors, {RECORDED.stat().st_size / 1000:.0f} kB")
        return
    stored, _ = load()
    assert stored.keys() == found.keys()
    for name, value in stored.items():
        assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-5), name
    print(f"{len(stored)} recorded tensors hold under TRL {trl.__version__}")


if __name__ == "__main__":
    main()
