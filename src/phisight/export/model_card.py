"""The model card: README.md beside the weights, from what the run folder holds.

Front matter for the hub, then: what it is, what it was trained on, figures with intervals, the certificate, limits,
licenses, how to call it. What is not known is said, never left as a gap.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from phisight.core.read_files import parse_yaml
from phisight.core.settings import Recipe
from phisight.core.task import Task

CARD_FILE = "README.md"
FIGURES = (
    "_accuracy", "_exact", "_mae", "_median_ape", "_days_off", "_relative_error", "_entry_f1", "_invented", "_missed",
    "parse_rate",
)  # fmt: skip
WRITTEN_ANEW = ("Limits", "How to call it")
"""Sections that are never those of an earlier card."""
_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)


@dataclass(frozen=True)
class CardFacts:
    """What a card tells."""

    title: str
    recipe: Recipe | None
    task: Task
    base: str
    """Name of the model that training started from."""
    model_license: str | None
    dtype: str
    adapters: bool
    """Whether the folder holds adapters alone."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """``dataset.json``."""
    scores: Mapping[str, Any] = field(default_factory=dict)
    """``scores.json``; empty before the run was evaluated."""
    compared: str = ""
    """How the export was compared with its run."""
    earlier: Mapping[str, str] = field(default_factory=dict)
    """Sections of the card of the model that was exported, where there is no run to tell them anew."""
    remote_code: str = ""
    """What other programs need the hub's own code for; empty without it."""


def model_card(facts: CardFacts) -> str:
    """The card as Markdown."""
    sections = {
        "Trained on": _trained_on(facts),
        "Figures": _figures(facts.scores),
        "What its confidence is worth": _reliability(facts.scores),
        "Does it look at the image?": _certificate(facts.scores),
        "Limits": _limits(facts),
        "Licenses": _licenses(facts),
        "How to call it": _how_to_call(facts),
    }
    earlier = {name: text for name, text in facts.earlier.items() if name in sections and name not in WRITTEN_ANEW}
    parts = [_front_matter(facts), f"# {facts.title}\n", _what_it_is(facts)]
    for name, text in (sections | earlier).items():
        parts += [f"## {name}\n", text]
    return "\n".join(parts).rstrip() + "\n"


def sections_of(card: str) -> dict[str, str]:
    """Text of each section of a card, by its heading."""
    parts = re.split(r"^## (.+)$", card, flags=re.MULTILINE)[1:]
    return {name.strip(): text.strip() + "\n" for name, text in zip(parts[::2], parts[1::2], strict=True)}


def license_of(folder: Path) -> str | None:
    """The license that a model folder states in the front matter of its card, or the first line of its LICENSE."""
    try:
        card, file = folder / CARD_FILE, folder / "LICENSE"
        match = _FRONT_MATTER.match(card.read_text(encoding="utf-8")) if card.is_file() else None
        stated = (parse_yaml(match[1], card) or {}).get("license") if match else None
        if stated:
            return str(stated)
        lines = file.read_text(encoding="utf-8").split("\n") if file.is_file() else []
        return next((line.strip() for line in lines if line.strip()), None)
    except (OSError, ValueError, AttributeError):
        return None


def _front_matter(facts: CardFacts) -> str:
    values: dict[str, Any] = {
        "library_name": "peft" if facts.adapters else "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["phi3_v", "phisight", *(["lora"] if facts.adapters else [])],
    }
    if "/" in facts.base and not Path(facts.base).is_absolute() and facts.base.count("/") == 1:
        values["base_model"] = facts.base
    if facts.model_license:
        values["license"] = facts.model_license.lower() if " " not in facts.model_license else "other"
    return "---\n" + yaml.safe_dump(values, sort_keys=False) + "---\n"


def _what_it_is(facts: CardFacts) -> str:
    kind = "Adapters (PEFT) for Phi-3-Vision" if facts.adapters else "A Phi-3-Vision model (`phi3_v`)"
    fields = ", ".join(f"`{name}` ({facts.task.fields[name].short})" for name in facts.task.names)
    made = "fine-tuned" if facts.recipe else "exported"
    text = (
        f"{kind}, {made} with phisight from `{facts.base}`; weights in {facts.dtype}. Shown an image and asked "
        f"`{facts.task.prompt}`, it answers in the form `{facts.task.answer}`. Fields: {fields}. {facts.compared}"
    )
    return text.rstrip() + "\n"


def _trained_on(facts: CardFacts) -> str:
    if facts.recipe is None:
        return "Not known: this folder was exported from a model without a run folder.\n"
    train, data = facts.recipe.train, facts.data
    source = data.get("source") or {}
    name = source.get("name") or source.get("kind") or facts.recipe.data.path.name
    splits = ", ".join(f"{count:,} {split}" for split, count in (data.get("splits") or {}).items())
    length = f"{train.steps:,} steps" if train.steps else f"{train.epochs:g} epochs"
    lines = [
        f"- Data: `{name}`, {data.get('rows', 'an unknown number of')} rows ({splits or 'splits not known'})",
        f"- Method: {train.method}, {length} of {train.batch_size * train.accumulate} examples, peak learning rate "
        f"{train.learning_rate:g}, numbers learned by `{train.numbers}`",
        f"- Seed: {facts.recipe.seed}; every setting stands in the run's `config.yaml`",
    ]
    return "\n".join(lines) + "\n"


def _figures(scores: Mapping[str, Any]) -> str:
    if not scores:
        return "Not evaluated yet: `phisight evaluate RUN` measures them, and writes them into this card.\n"
    intervals = scores.get("intervals") or {}
    lines = [f"On {scores.get('rows')} rows that the model was not trained on; 95 % intervals (bootstrap).\n"]
    lines += ["| figure | value | 95 % interval |", "|---|---|---|"]
    for name, value in scores.items():
        if name.endswith(FIGURES) and isinstance(value, int | float):
            ends = intervals.get(name)
            lines.append(f"| {name} | {value:.3f} | {f'{ends[0]:.3f} to {ends[1]:.3f}' if ends else ''} |")
    for name, one in (scores.get("prediction_intervals") or {}).items():
        if one.get("coverage") is not None:
            lines.append(f"| {name}: coverage of the {one['level']:.0%} interval | {one['coverage']:.3f} | |")
    return "\n".join(lines) + "\n"


def _reliability(scores: Mapping[str, Any]) -> str:
    """What a confidence is worth, field by field."""
    found: Mapping[str, Any] = scores.get("calibration") or {}
    if not found:
        return "Confidences are raw sequence probabilities: no validation rows were at hand to calibrate them.\n"
    lines = ["Confidence of validation answers, calibrated by cross-fitting, and how many of them were right.\n"]
    lines += ["| field | confidence | answers | mean confidence | right |", "|---|---|---|---|---|"]
    for name, one in found.items():
        lines += [
            f"| {name} | {row['low']:.0%} to {row['high']:.0%} | {row['rows']} | {row['confidence']:.1%} | "
            f"{row['right']:.1%} |"
            for row in one["table"]
        ]
    return "\n".join(lines) + "\n"


def _certificate(scores: Mapping[str, Any]) -> str:
    lines = (scores.get("verdict") or {}).get("lines") or []
    if not lines:
        return "Not checked: the run has not been evaluated with other images.\n"
    return "\n".join(f"- {line}" for line in lines) + "\n"


def _limits(facts: CardFacts) -> str:
    lines = [
        "- It answers every image in the form above, also one that shows nothing of the kind: look at the confidence.",
        "- Figures hold for rows drawn like the ones they were measured on.",
    ]
    unread = 1 - float(facts.scores.get("parse_rate", 1))
    if unread:
        lines.append(f"- {unread:.1%} of its answers on those rows could not be read.")
    if any(one.rules.needs_values(one) for one in facts.task.fields.values()):
        lines.append("- It knows the categories of its training rows only.")
    if facts.recipe and facts.recipe.train.numbers == "head":
        lines.append(
            "- Its numbers come from `number_head.safetensors`, which only phisight reads: other programs see the "
            "digits that the model writes."
        )
    if facts.remote_code:
        lines.append(f"- {facts.remote_code}")
    return "\n".join(lines) + "\n"


def _licenses(facts: CardFacts) -> str:
    data = (facts.data.get("source") or {}).get("license")
    model = facts.model_license or f"not stated by `{facts.base}`; ask who published it before you pass this on"
    rows = data or "not stated in the data set; ask who owns the images before you publish what was trained on them"
    return f"- Model: {model}\n- Data: {rows}\n"


def _how_to_call(facts: CardFacts) -> str:
    named = "\n".join(f"# {name}: {facts.task.fields[name].short}" for name in facts.task.names)
    typed = f"""```python
import phisight

model = phisight.load("FOLDER")
answer = model.extract("photo.jpg")
print(dict(answer), answer.confidence, answer.text)
{named}
```
"""
    if facts.adapters:
        return typed + "\nThe base is named in `adapter_config.json`; PEFT loads the adapters onto it.\n"
    return (
        typed
        + f"""
With transformers alone, without typed fields:

```python
import phisight  # registers phi3_v
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("FOLDER")
processor = AutoProcessor.from_pretrained("FOLDER")
content = [{{"type": "image"}}, {{"type": "text", "text": {facts.task.prompt!r}}}]
text = processor.apply_chat_template([{{"role": "user", "content": content}}], add_generation_prompt=True)
inputs = processor(text=text, images=Image.open("photo.jpg"), return_tensors="pt")
print(processor.batch_decode(model.generate(**inputs, max_new_tokens=96))[0])
```
"""
    )
