"""Tokens per second of batched answers against one image after the other, same model, same images, in one run.

    python benchmarks/generate.py [--model DIR] [--rows 64] [--batch-size 32] [--threads 2] [--json FILE]

Both sides include everything from the file to the text: decoding the image, the processor, generation, reading the
ids. One at a time is ``processor(...)``, ``model.generate(...)`` with a cache, ``decode``, as a model card shows it.
Both must give the same answers; rounds are taken in turns. Without ``--model`` a tiny model is made anew.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image

from phisight.core.settings import ModelSettings
from phisight.data.dataset.folder import DatasetFolder
from phisight.generate import Predictor, Request
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.workflows.load import load_model, new_model

TARGET = 5.0
"""At least this many times the tokens per second."""


def one_at_a_time(model: Any, processor: Any, prompt: str, images: Sequence[Path], most: int) -> tuple[list[str], int]:
    """Answers and generated tokens."""
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    answers, tokens = [], 0
    for path in images:
        inputs = processor(text=text, images=Image.open(path).convert("RGB"), return_tensors="pt").to(model.device)
        with torch.no_grad():
            ids = model.generate(**inputs, max_new_tokens=most, do_sample=False, use_cache=True)
        new = ids[0, inputs["input_ids"].shape[1] :]
        tokens += len(new)
        answers.append(processor.decode(new, skip_special_tokens=True).strip())
    return answers, tokens


def batched(predictor: Predictor, prompt: str, images: Sequence[Path]) -> list[str]:
    """Answers in the order of the images."""
    found = dict(predictor.answers(Request(prompt, [path]) for path in images))
    return [found[index] for index in range(len(images))]


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def model_and_images(asked: argparse.Namespace, folder: Path) -> tuple[Any, Any, str, list[Path]]:
    """What is asked, and about what: drawn products."""
    make(max(asked.rows, 10), folder, seed=0, settings=preset("demo"), workers=1)
    data = DatasetFolder.open(folder)
    rows = data.rows()
    if asked.model:
        model, processor = load_model(asked.model, ModelSettings(name=str(asked.model), attention=asked.attention))
    else:
        texts = [data.task.prompt, *(data.task.render(row) for row in rows)]
        model, processor = new_model(ModelSettings(attention=asked.attention), texts, seed=0)
    return model.eval(), processor, data.task.prompt, [data.image_path(row) for row in rows[: asked.rows]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="model folder; none: a tiny one")
    parser.add_argument("--attention", default="eager")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    most = asked.max_new_tokens
    with tempfile.TemporaryDirectory() as folder:
        model, processor, prompt, images = model_and_images(asked, Path(folder) / "data")
        predictor = Predictor(model, processor, batch_size=asked.batch_size, max_new_tokens=most)
        one_at_a_time(model, processor, prompt, images[:2], most)  # warm
        batched(predictor, prompt, images[:2])
        rounds = []
        for _ in range(asked.rounds):
            single, (answers, tokens) = timed(lambda: one_at_a_time(model, processor, prompt, images, most))
            together, texts = timed(lambda: batched(predictor, prompt, images))
            same = sum(left == right for left, right in zip(answers, texts, strict=True))
            if same < 0.99 * len(images):
                raise SystemExit(f"only {same} of {len(images)} answers are the same")
            rounds.append({"one_at_a_time": tokens / single, "batched": tokens / together, "same": same})
            print(
                f"{tokens} tokens   one at a time {tokens / single:7.1f} tokens/s   "
                f"batches of {asked.batch_size} {tokens / together:7.1f} tokens/s   {single / together:.1f} x   "
                f"{same} of {len(images)} answers the same"
            )
    ratio = median(one["batched"] / one["one_at_a_time"] for one in rounds)
    print(f"median {ratio:.1f} x, target {TARGET:.0f} x: {'reached' if ratio >= TARGET else 'MISSED'}")
    if asked.json:
        about = {"machine": platform.machine(), "torch": torch.__version__, "threads": asked.threads}
        settings = {"rows": asked.rows, "batch_size": asked.batch_size, "max_new_tokens": most}
        asked.json.write_text(json.dumps({**about, **settings, "ratio": ratio, "rounds": rounds}, indent=2))


if __name__ == "__main__":
    main()
