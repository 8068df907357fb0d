"""The whole model on this machine: load, one LoRA training step, one generated answer, each with time and memory.

    python benchmarks/full_size.py --config FOLDER [--weights FOLDER] [--json FILE]

FOLDER holds the published config.json, preprocessor_config.json and tokenizer files; the weights are random, written in
the published layout (bfloat16, shards, an index) tensor by tensor. About 8.3 GB of disk and 11 GB of memory are needed.

Memory is what the process holds: proportional set size, sampled, where the kernel gives it, so that a page of a mapped
file counts once however often it is mapped; beside it stands the highest resident set size, which is never smaller.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SHARD_BYTES = 2_000_000_000
CHUNK = 1 << 24
PROMPT = "<|user|>\n<|image_1|>\nWhat is shown in this image?<|end|>\n<|assistant|>\n"
ANSWER = "Product: Vintage Check Scarf, Category: SCARVES, Full Price: 470.0<|end|>\n<|endoftext|>"
NEW_TOKENS = 8
LORA_TARGETS = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
COPIED = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


def write_weights(source: Path, into: Path) -> int:
    """Random weights in the published layout; returns their bytes. No more than one tensor is in memory."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    import phisight  # noqa: F401 - registers phi3_v

    into.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        if (source / name).is_file():
            (into / name).write_bytes((source / name).read_bytes())
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(source))
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    size = 0
    for name, shape in shapes.items():
        size += 2 * torch.Size(shape).numel()
        if size > SHARD_BYTES:
            shards.append({})
            size = 2 * torch.Size(shape).numel()
        shards[-1][name] = shape
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_shard(into / file, shard)
        weight_map |= dict.fromkeys(shard, file)
    total = sum(2 * torch.Size(shape).numel() for shape in shapes.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (into / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return total


def _write_shard(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """One safetensors file: length of the header, header, values in its order."""
    import torch

    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, shape in shapes.items():
        end = start + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
        start = end
    written = json.dumps(header).encode()
    written += b" " * (-len(written) % 8)
    noise = torch.randn(2 * CHUNK, generator=torch.Generator().manual_seed(0)) * 0.02
    blocks = {is_scale: (noise + float(is_scale)).bfloat16().view(torch.uint8).numpy() for is_scale in (False, True)}
    with path.open("wb") as file:
        file.write(len(written).to_bytes(8, "little") + written)
        for number, (name, shape) in enumerate(shapes.items()):
            left = torch.Size(shape).numel()
            block = blocks["norm" in name and name.endswith("weight")][2 * (104_729 * number % CHUNK) :]
            while left > 0:
                count = min(left, CHUNK)
                file.write(block[: 2 * count].data)
                left -= count


class Memory:
    """Samples the proportional set size in a thread; ``peak`` since the last ``reset``, in bytes."""

    def __init__(self, seconds: float = 0.25) -> None:
        self.peak = 0
        self._seconds = seconds
        self._stop = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    @staticmethod
    def now() -> int:
        """Bytes held now; the resident set's highest value where the kernel has no better."""
        rollup = Path("/proc/self/smaps_rollup")
        if not rollup.exists():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        lines = (line.split() for line in rollup.read_text().splitlines())
        return next(int(words[1]) * 1024 for words in lines if words[0] == "Pss:")

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self.peak = max(self.peak, self.now())

    def reset(self) -> None:
        """Start a new peak."""
        self.peak = self.now()


@contextmanager
def stage(name: str, memory: Memory, figures: dict[str, Any]) -> Iterator[None]:
    """Time and peak memory of one stage, printed and kept."""
    memory.reset()
    start = time.monotonic()
    yield
    memory.peak = max(memory.peak, memory.now())
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures[name] = {"seconds": time.monotonic() - start, "peak_bytes": memory.peak, "highest_rss_bytes": highest}
    took = figures[name]["seconds"]
    print(f"{name:12} {took:7.1f} s   {memory.peak / 1e9:6.2f} GB   highest so far {highest / 1e9:6.2f} GB", flush=True)


def measure(weights: Path) -> dict[str, Any]:
    """Load, one training step, one answer."""
    import numpy as np
    import torch
    from peft import LoraConfig, get_peft_model
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    import phisight  # noqa: F401 - registers phi3_v

    figures: dict[str, Any] = {}
    memory = Memory()
    with stage("imports", memory, figures):
        processor = AutoProcessor.from_pretrained(weights)
    with stage("load", memory, figures):
        model = AutoModelForImageTextToText.from_pretrained(weights, dtype=torch.bfloat16)
        for parameter in model.parameters():  # touch every page of a mapped file
            parameter.view(-1)[::2048].sum()
    image = Image.fromarray(np.random.RandomState(0).randint(0, 256, (480, 640, 3)).astype(np.uint8))
    batch = dict(processor(text=PROMPT, images=image, num_crops=1, return_tensors="pt"))
    answer = torch.tensor([processor.tokenizer(ANSWER, add_special_tokens=False)["input_ids"]])
    example = {**batch, "input_ids": torch.cat([batch["input_ids"], answer], 1)}
    example["attention_mask"] = torch.ones_like(example["input_ids"])
    labels = example["input_ids"].clone()
    labels[:, : batch["input_ids"].shape[1]] = -100

    tuned = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=LORA_TARGETS))
    tuned.enable_input_require_grads()
    trained = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    with stage("train step", memory, figures):
        loss = tuned(**example, labels=labels, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    figures["train step"] |= {
        "loss": loss.item(),
        "tokens": labels.shape[1],
        "trained_parameters": sum(parameter.numel() for parameter in trained),
    }
    with stage("answer", memory, figures), torch.no_grad():
        made = tuned.generate(  # type: ignore[no-untyped-call]
            **batch, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False
        )
    figures["answer"]["new_tokens"] = made.shape[1] - batch["input_ids"].shape[1]
    return figures


def main() -> None:
    """Write the weights, then measure in a process of its own."""
    parser = argparse.ArgumentParser(description="The whole model on this machine")
    parser.add_argument("--config", type=Path, help="folder with the published configuration and tokenizer")
    parser.add_argument("--weights", type=Path, help="folder for the random weights; kept (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure)))
        return
    if not asked.config:
        parser.error("--config FOLDER is needed: where the published config.json and tokenizer files are")
    with tempfile.TemporaryDirectory() as temporary:
        weights = asked.weights or Path(temporary)
        start = time.monotonic()
        size = write_weights(asked.config, weights)
        print(f"written      {time.monotonic() - start:7.1f} s   {size / 1e9:6.2f} GB of weights", flush=True)
        child = [sys.executable, __file__, "--measure", str(weights)]
        with subprocess.Popen(child, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if not line.startswith("{"):
                    print(line, end="", flush=True)
        if process.returncode:
            sys.exit(process.returncode)
    figures = json.loads(lines[-1])
    ratio = figures["load"]["peak_bytes"] / size
    print(f"loading held at most {ratio:.2f} x the weights")
    if asked.json:
        about = {"machine": platform.machine(), "weights_bytes": size, "load_ratio": ratio, "stages": figures}
        asked.json.write_text(json.dumps(about, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
