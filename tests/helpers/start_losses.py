"""Methods of training, and the loss of what they leave behind."""

import json
from pathlib import Path
from typing import Any

import torch

from phisight.core.settings import Recipe
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.images.decode import load_image
from phisight.export.subject import read_run
from phisight.train.examples.collators import Collator
from phisight.train.examples.dataset import ExampleSet
from phisight.train.examples.number_targets import NumberTargets
from phisight.workflows.export import export_model
from phisight.workflows.load import load_model
from tests.helpers.trained_run import trained

LARGE: dict[str, Any] = {"steps": 3, "learning_rate": 3e-2, "evaluate_every": 3, "numbers": "text"}
METHODS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "full with tower": {"method": "full", "train_tower": True},
    "projector": {"method": "projector"},
    "top layers": {"method": "full", "from_layer": 2},
    "lora": {"method": "lora"},
    "lora with tower": {"method": "lora", "train_tower": True},
    "lora on top layers": {"method": "lora", "from_layer": 2},
    "lora with number head": {"method": "lora", "numbers": "head"},
    "dora": {"method": "dora"},
    "qlora": {"method": "qlora"},
}
QUANTIZED = 0.05
"""QLoRA's losses during training are those of the base in 4 bits; its adapters go onto the base as it is."""


def loss_of(name: Path, recipe: Recipe, products: Path) -> float:
    """Mean loss over the trained tokens of the validation split, of a model that is loaded by its name."""
    model, processor = load_model(name, recipe.model)
    data = DatasetFolder.open(products)
    rows = data.rows("validation")
    examples = ExampleSet(rows, lambda row: load_image(data.image_path(row)), processor, data.task, num_crops=1)
    examples.targets = NumberTargets(recipe.train.numbers, data.task, processor.tokenizer)
    batch = Collator(processor.tokenizer.pad_token_id)([examples[index] for index in range(len(rows))])
    model.eval()
    with torch.no_grad():
        loss: float = model(**batch, skip_logits=True).loss.item()
    return loss


def reported(run: Path) -> float:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return min(float(line["eval/loss"]) for line in lines if "eval/loss" in line)


def losses_of(method: str, start: str, products: Path, folder: Path) -> dict[str, float]:
    """Loss that a training reports, of the folder that it saves, and of its export."""
    run = trained(products, folder / "run", model=start, **{**LARGE, **METHODS[method]})
    recipe = read_run(run)
    saved = loss_of(run, recipe, products)
    export_model(run, folder / "export", rows=0)
    return {"reported": reported(run), "saved": saved, "exported": loss_of(folder / "export", recipe, products)}


def require_one_loss(method: str, found: dict[str, float]) -> None:
    """The three are one; of QLoRA but for the rounding of its base."""
    assert abs(found["saved"] - found["reported"]) <= (QUANTIZED if method == "qlora" else 2e-3), found
    assert found["exported"] == found["saved"], found
