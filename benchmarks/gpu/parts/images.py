"""The image pipeline: images a second of decoder and processor with some worker processes, against what a step eats."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from gpu.model import ROW, TASK
from gpu.parts import lora
from gpu.record import Figures
from gpu.session import Session
from gpu.training import PIXELS, adapted
from phisight.data.images.decode import load_image
from phisight.train.examples.tokenize import Conversation, encode_answer

PART = "images"
FILES = 32


def run(session: Session) -> None:
    """Images a second by workers, then steps that a loader feeds."""
    cores = os.cpu_count() or 1
    counts = sorted({0, *(count for count in (4, 8, 16) if count <= cores)} if session.full else {0, 2})
    with tempfile.TemporaryDirectory() as temporary:
        paths = draw_files(Path(temporary), 1000 if session.full else 120)
        for grid in session.size.grids:
            for workers in counts:

                def rate(grid: int = grid, workers: int = workers) -> Figures:
                    return processed(session, paths, grid, workers)

                session.record.attempt(PART, f"{grid * grid} tiles, {workers} workers", session.needs(3.5), rate)
        grid = session.size.grids[1]

        def feed() -> Figures:
            told = f"{session.size.image_tokens(grid):,} image tokens: {lora.COMPUTED.name}"
            micro = session.record.figure(lora.PART, told, "micro_batch") or 1
            with adapted(session.model) as model:
                examples = Examples(session, paths, grid, 50_000)
                return lora.fed(session, model, lora.COMPUTED, examples, micro, workers=counts[-1])

        session.record.attempt(PART, f"{grid * grid} tiles, steps fed by {counts[-1]} workers", session.needs(12), feed)


def draw_files(folder: Path, side: int) -> list[Path]:
    """Square JPEG files that compress like photos."""
    generator = np.random.default_rng(0)
    paths = []
    for number in range(FILES):
        coarse = generator.integers(0, 256, (side // 10, side // 10, 3), dtype=np.uint8)
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


class Examples(Dataset[Any]):
    """Files to examples with pixels, as training reads them."""

    def __init__(self, session: Session, paths: list[Path], grid: int, count: int) -> None:
        self.paths, self.grid, self.count = paths, grid, count
        self.processor = session.processor
        chat = Conversation.of(self.processor, TASK, ROW)
        ids, labels = encode_answer(self.processor, chat.prompt, chat.answer, [session.size.image_tokens(grid)])
        self.text = {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        image = load_image(self.paths[index % len(self.paths)])
        made = self.processor.image_processor(image, num_crops=self.grid**2, pad_crops=False, return_tensors="pt")
        return {**self.text, PIXELS: [made["pixel_values"][0]], "image_sizes": made["image_sizes"]}


def processed(session: Session, paths: list[Path], grid: int, workers: int) -> Figures:
    """Images a second from file to pixels."""
    seconds = 2.0 if session.full else 0.2
    examples = Examples(session, paths, grid, 100_000)
    loader = DataLoader(examples, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
    source = iter(loader)
    for _ in range(max(2, 2 * workers)):  # workers start
        next(source)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(source)
        done += 1
    rate = done / (time.perf_counter() - start)
    del source
    told = f"{session.size.image_tokens(grid):,} image tokens: {lora.COMPUTED.name}"
    eaten = session.record.figure(lora.PART, told, "images_per_s")
    return {"images_per_s": rate, **({"times_what_a_step_eats": rate / eaten} if eaten else {})}
