"""How the small base model of the package is made: an untrained folder, pretraining by recipe, the packed folder.

    phisight sample make --preset captions     drawn products, each with a caption
    untrained_base(...)                        tokenizer and random weights: a folder in the official layout
    phisight train recipes/tiny-base.yaml      -> best/
    pack_base(...)                             -> bfloat16 weights, tokenizer, processor, model card

``make tiny-base`` runs all of them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from phisight.core.run_folder import write_text_atomically
from phisight.core.seeding import named_seed
from phisight.core.settings import EvaluateSettings, ModelSettings
from phisight.evaluate import evaluate, read_rows
from phisight.export.model_card import CARD_FILE
from phisight.model.image_processing import Phi3VImageProcessor
from phisight.model.processing import Phi3VProcessor
from phisight.model.tiny import TINY_BASE, TINY_VISION, tiny_config, tiny_model, train_tokenizer
from phisight.sample.captions.caption_content import HEADING_TASK, HELD_BACK, TASK, captioned
from phisight.sample.captions.caption_folder import make_captions
from phisight.sample.captions.everyday_vocabulary import everyday_texts
from phisight.train.examples.tokenize import encode_answer, prompt_text
from phisight.workflows.load import load_model
from phisight.workflows.predict import predictor_of

VOCABULARY = 3584
"""Most tokens; the captions and words at hand need fewer."""
SEED, MORE_SEED = 17, 21
"""Of the drawings, and of those of the last part."""
FIGURES_FILE = "figures.json"
"""What the card states, beside the weights."""
CARD_ROWS, CARD_SEED = 200, 18
_TOKENIZER_CAPTIONS, _EVERYDAY_WEIGHT = 4000, 20
_STATED = {
    "tone": "color word (the nearest of 28)",
    "pattern": "pattern (one of 10)",
    "noun": "name of the product (one of 50)",
    "heading": "all three",
}


def untrained_base(out: Path, seed: int = SEED) -> Path:
    """A folder with random float32 weights and a tokenizer of captions and everyday words; returns it."""
    captions = [TASK.render(captioned(seed, row).values()) for row in range(_TOKENIZER_CAPTIONS)]
    texts = [TASK.prompt, *captions, *(everyday_texts() * _EVERYDAY_WEIGHT)]
    tokenizer = train_tokenizer(texts, VOCABULARY, split_punctuation=True)
    image_processor = Phi3VImageProcessor(num_crops=1, crop_size=TINY_VISION["image_size"])
    model = tiny_model(tiny_config(tokenizer), seed)
    model.save_pretrained(out)
    Phi3VProcessor(image_processor, tokenizer).save_pretrained(out)
    return out


def pack_base(source: Path, out: Path) -> dict[str, Any]:
    """The best checkpoint of a pretraining run (or any folder of such weights) as the packaged folder; its figures."""
    model, processor = load_model(source, ModelSettings(dtype="float32"))
    with torch.no_grad():
        _reset_unseen_tokens(model, processor)
    model.config.name_or_path = TINY_BASE  # not where it was trained
    model.to(torch.bfloat16).save_pretrained(out)
    processor.save_pretrained(out)
    found = caption_figures(out)
    write_text_atomically(out / FIGURES_FILE, json.dumps(found, indent=2) + "\n")
    write_text_atomically(out / CARD_FILE, _card(found))
    return found


def caption_figures(model: Path | str, rows: int = CARD_ROWS) -> dict[str, Any]:
    """Figures of a base model on ``rows`` drawings that pretraining has not seen."""
    network, processor = load_model(model, ModelSettings(dtype="float32", attention="eager"))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "drawings"
        make_captions(rows, folder, seed=CARD_SEED, held_out=1.0)
        settings = EvaluateSettings(batch_size=50)
        predictor = predictor_of(network, processor, settings, "text", HEADING_TASK, [folder])
        drawn = read_rows(folder, HEADING_TASK, "test").rows
        answers = evaluate(predictor, drawn, HEADING_TASK)
    pairs = list(zip(answers.truth("heading"), answers.predicted("heading"), strict=True))
    right = [_parts_right(str(truth), str(answer or "")) for truth, answer in pairs]
    shares = {name: sum(parts[name] for parts in right) / len(right) for name in _STATED}
    return {"rows": rows, "seed": CARD_SEED, **shares}


def _parts_right(truth: str, answer: str) -> dict[str, bool]:
    """Whether color word, pattern and name of a heading are right."""
    wanted, given = (text.split(" ", 2) for text in (truth, answer))
    # words that are missing or too many make all of them wrong
    right = [len(given) == len(wanted) and one == other for one, other in zip(wanted, given, strict=False)]
    right += [False] * (3 - len(right))
    return {"tone": right[0], "pattern": right[1], "noun": right[2], "heading": all(right)}


def _reset_unseen_tokens(model: Any, processor: Any) -> None:
    """Draw the vectors of tokens that no caption holds like those of the others.

    Training has only ever pushed their logits down; fine-tuning would have to lift them out of there first.
    """
    tokenizer = processor.tokenizer
    seen = torch.zeros(len(tokenizer), dtype=torch.bool)
    seen[[*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder]] = True
    prompt = prompt_text(processor, TASK.prompt)
    for row in range(_TOKENIZER_CAPTIONS):  # as training encodes them: a word behind a line end is another token
        values = captioned(SEED, row).values()
        for task in (TASK, HEADING_TASK):
            ids, _ = encode_answer(processor, prompt, task.render(values), [1])
            seen[[one for one in ids if one >= 0]] = True
    drawn = torch.Generator().manual_seed(named_seed(SEED, "unseen tokens"))
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        rows = layer.weight
        mean, deviation = rows[seen].mean(0), rows[seen].std(0)
        noise = torch.randn(int((~seen).sum()), rows.shape[1], generator=drawn)
        rows[~seen] = mean + deviation * noise


def _card(found: Mapping[str, Any]) -> str:
    table = "\n".join(f"| {about} | {found[name]:.1%} |" for name, about in _STATED.items())
    return f"""---
license: mit
library_name: transformers
pipeline_tag: image-text-to-text
---

# phisight-{TINY_BASE}

A Phi-3-Vision of four million parameters (the official layout, bfloat16), pretrained to caption drawn products. It
comes with phisight so that a first fine-tuning takes two minutes on a CPU: `model.name: {TINY_BASE}`. It knows
drawings, not photographs, and no language beyond its captions; expect no answers of it before it is fine-tuned.

## Trained on

210,000 drawings of phisight's own (`phisight sample make --preset captions`: 100,000 with seed {SEED}, 110,000 with
seed {MORE_SEED}), nothing else: 50 kinds of product, 10 patterns, 20 materials, any color, 128 to 352 pixels, 40 % of
them on colored ground in any pose. Each has a caption in generic words: a heading (color word, pattern, name), the
name, the material, the color's channels. `make tiny-base` makes such a model; these weights: 1,896 steps of
`recipes/tiny-base.yaml`, 1,349 of `recipes/tiny-base-headings.yaml` (both ended before their schedule did), 1,900 of
`recipes/tiny-base-patterns.yaml`, which sees 10,544 of the drawings (plain ground, much cloth, six patterns), all three
on the first 40,000, then 22,000 of `recipes/tiny-base-longer.yaml` on the first 100,000 and, from these weights in
bfloat16, 20,000 of `recipes/tiny-base-more.yaml` on the others; two hours and three quarters on one core.

Held back, so that fine-tuning on the demo's catalogue has something to learn: its designs; every color nearer than
{HELD_BACK:.0f} (RGB distance) to one of its colors, in any pattern; the words of its titles and the names of its
categories; prices; its question and the form of its answer. The tokenizer has everyday words as tokens of their own,
those of the catalogue among them, but no caption holds one of these: their vectors are drawn at random.

## Figures

On {found["rows"]} drawings with another seed, captions generated:

| figure | |
|---|---|
{table}

## License

MIT, as phisight.
"""
