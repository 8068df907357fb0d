"""Peak memory and time of an export at full size: LoRA adapters on a base of random weights, merged and compared.

    python benchmarks/export_memory.py --config FOLDER [--layers N] [--dtype bfloat16] [--folder DIR] [--json FILE]

FOLDER holds the published config.json, preprocessor_config.json and tokenizer files. Base (bfloat16, shards) and LoRA
of every linear layer of the decoder have random values. ``phisight export`` then runs as for a user, comparing
one row. Twice the weights of disk are needed (17 GB at full size) and 1.2 times of memory.

Memory is the proportional set size of the command and its children together, sampled: a page of a mapped file counts
once however often it is mapped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from full_size import write_weights

TARGETS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
RANK = 16
SECONDS = 0.2
LIMIT = 1.2
"""Peak memory over the bytes of the weights that is aimed at."""


def write_base(config: Path, out: Path, layers: int | None) -> int:
    """The base, of the published depth or of ``layers``; returns its bytes."""
    source = out.parent / "published"
    shutil.copytree(config, source)
    values = json.loads((source / "config.json").read_text(encoding="utf-8"))
    values["num_hidden_layers"] = layers or values["num_hidden_layers"]
    (source / "config.json").write_text(json.dumps(values), encoding="utf-8")
    settings = source / "preprocessor_config.json"
    crops = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(json.dumps({**crops, "num_crops": 1}), encoding="utf-8")
    return write_weights(source, out)


def write_adapters(base: Path, out: Path) -> None:
    """Adapters on every linear layer of the decoder, in PEFT's format, asked for one token."""
    import torch
    from safetensors.torch import save_file

    from phisight.core.task import Task
    from phisight.export.task_file import TaskFile
    from phisight.export.tensor_files import specs_of

    tensors = {}
    for path in sorted(base.glob("*.safetensors")):
        for spec in specs_of(path):
            layer = spec.name.removesuffix(".weight")
            if layer.rsplit(".", 1)[-1] in TARGETS and ".layers." in layer and "img_processor" not in layer:
                height, width = spec.shape
                tensors[f"base_model.model.{layer}.lora_A.weight"] = torch.randn(RANK, width) * 0.02
                tensors[f"base_model.model.{layer}.lora_B.weight"] = torch.randn(height, RANK) * 0.02
    out.mkdir(parents=True)
    save_file(tensors, out / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": list(TARGETS), "bias": "none"}
    (out / "adapter_config.json").write_text(
        json.dumps({**settings, "base_model_name_or_path": str(base.resolve())}), encoding="utf-8"
    )
    TaskFile(task=Task(), max_new_tokens=1).write(out)


def held(root: int) -> tuple[int, int]:
    """Bytes that a process and its children hold now, and those of the process alone."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(stat.read_text().rsplit(")", 1)[1].split()[1]), []).append(int(stat.parent.name))
        except (OSError, ValueError):
            continue
    total, alone, left = 0, 0, [root]
    while left:
        process = left.pop()
        left += parents.get(process, [])
        try:
            lines = (line.split() for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines())
            found = next(int(words[1]) * 1024 for words in lines if words[0] == "Pss:")
        except (OSError, StopIteration):
            continue
        total += found
        alone = found if process == root else alone
    return total, alone


def measure(adapters: Path, out: Path, dtype: str) -> dict[str, Any]:
    """Run the command; peak memory and seconds while weights are written, and while both sides are asked."""
    command = ["-m", "phisight", "export", str(adapters), "--out", str(out), "--rows", "1", "--dtype", dtype]
    log = out.parent / "export.log"
    peaks = {"merge": (0, 0), "compare": (0, 0)}
    start, asked = time.monotonic(), 0.0
    with log.open("w") as messages, subprocess.Popen([sys.executable, *command], stderr=messages) as running:
        while running.poll() is None:
            text = log.read_text()
            stage = "compare" if "Asking the run" in text else "merge"
            asked = asked or (time.monotonic() if stage == "compare" else 0.0)
            peaks[stage] = max(peaks[stage], held(running.pid))
            time.sleep(SECONDS)
    if running.returncode:
        raise SystemExit(log.read_text())
    return {
        "merge_peak_bytes": peaks["merge"][0],
        "merge_seconds": asked - start,
        "compare_peak_bytes": peaks["compare"][0],
        "command_in_this_peak_bytes": peaks["compare"][1],
        "compare_seconds": time.monotonic() - asked,
        "compared": log.read_text().strip().splitlines()[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory of an export")
    parser.add_argument("--config", type=Path, required=True, help="folder with published configuration and tokenizer")
    parser.add_argument("--layers", type=int, help="decoder layers (default: as published)")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--folder", type=Path, help="where base and export are written (default: a temporary folder)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        weights = write_base(options.config, folder / "base", options.layers)
        write_adapters(folder / "base", folder / "adapters")
        print(f"base of {weights / 1e9:.2f} GB written", flush=True)
        found = measure(folder / "adapters", folder / "export", options.dtype)
        written = sum(path.stat().st_size for path in (folder / "export").glob("*.safetensors"))
    found |= {"layers": options.layers, "weights_bytes": written}
    found["ratio"] = max(found["merge_peak_bytes"], found["compare_peak_bytes"]) / written
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if found["ratio"] > LIMIT:
        raise SystemExit(f"peak memory is {found['ratio']:.2f} x the weights, at most {LIMIT} x is aimed at")


if __name__ == "__main__":
    main()
