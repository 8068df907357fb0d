"""phisight and vLLM on the same export: prompt ids, greedy tokens, typed fields, and throughput of both.

    make engines
    python benchmarks/engines.py --model EXPORT [--data DIR] [--images 50] [--dtypes float32 bfloat16]
    python benchmarks/engines.py --config FOLDER [--steps 150] ...

vLLM has an environment of its own (``make engines`` makes it); each side runs in a process of its own interpreter, one
after the other, on the same images. ``--config`` stands for an export where there is none of the published size: a
folder with the published tokenizer and configuration, of which a checkpoint with the full vision tower, a small decoder
and random weights is made (vLLM reads architecture, image token and tower as constants, so nothing smaller is served).
With ``--steps`` its decoder is trained on the images' fields and exported, so that there are typed fields to compare.
In float32 every prompt id, every greedy token and every field must be equal, and with an export or ``--steps`` some
answers must hold fields; another dtype is reported as measured. Two images more are asked at the published number of
crops (``--crops``), which the made checkpoint does without: their ids must be equal, too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SMALL_DECODER = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
CROPPED_IMAGES = 2
COPIED = ("preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def make_checkpoint(config: Path, out: Path) -> None:
    """Full tower, small decoder, random weights large enough that greedy answers depend on the image."""
    import torch
    from transformers import AutoProcessor

    from phisight.model import Phi3VConfig, Phi3VisionForConditionalGeneration

    out.mkdir(parents=True)
    for name in (*COPIED, "config.json"):
        if (config / name).is_file():
            (out / name).write_bytes((config / name).read_bytes())
    published = json.loads((config / "config.json").read_text(encoding="utf-8"))
    factors = [1.0] * (SMALL_DECODER["hidden_size"] // SMALL_DECODER["num_attention_heads"] // 2)
    published |= {**SMALL_DECODER, "rope_scaling": {"long_factor": factors, "short_factor": factors, "type": "su"}}
    (out / "config.json").write_text(json.dumps(published), encoding="utf-8")
    processor = AutoProcessor.from_pretrained(out)
    processor.image_processor.num_crops = 1  # of a random tower more crops prove nothing more
    torch.manual_seed(0)
    model = Phi3VisionForConditionalGeneration(Phi3VConfig(**{**published, "vision_config": None})).float()
    for name, value in model.named_parameters():
        if "layers" in name and value.ndim == 2 and "img_processor" not in name:
            torch.nn.init.normal_(value, std=0.08)
    torch.nn.init.normal_(model.lm_head.weight, std=0.5)
    model.save_pretrained(out)
    processor.save_pretrained(out)


def drawn(count: int, out: Path) -> Path:
    """A data set folder of drawn products."""
    from phisight.sample.catalogue.presets import preset
    from phisight.sample.draw_catalogue import make

    make(max(count, 10), out, seed=0, settings=preset("demo"), workers=1)
    return out


def images_of(data: Path, count: int) -> list[str]:
    """Files of a data set folder."""
    from phisight.data.dataset.folder import DatasetFolder

    folder = DatasetFolder.open(data)
    return [str(folder.image_path(row)) for row in folder.rows()[:count]]


def trained_export(checkpoint: Path, data: Path, steps: int, out: Path) -> Path:
    """The checkpoint with decoder and projector trained on the fields of a data set, exported."""
    import phisight

    run = phisight.train_model(
        {
            "out": str(out / "run"),
            "model": {"name": str(checkpoint)},
            "data": {"path": str(data), "feature_cache": str(out / "features")},
            "train": {"method": "full", "steps": steps, "batch_size": 4, "learning_rate": 2e-3, "log_every": 10,
                      "evaluate_every": None, "numbers": "text"},
            "evaluate": {"max_new_tokens": 48},
        }
    )  # fmt: skip
    return phisight.export_model(run, out / "export", rows=2).folder


def by_phisight(asked: dict[str, Any]) -> dict[str, Any]:
    """Ids of prompts and greedy answers, and seconds."""
    import torch

    from phisight.core.settings import ModelSettings
    from phisight.generate import Request
    from phisight.generate.scheduler import Scheduler
    from phisight.workflows.load import load_model

    torch.set_num_threads(asked["threads"])
    model, processor = load_model(asked["model"], ModelSettings(dtype=asked["dtype"], num_crops=asked["crops"]))
    requests = [Request(asked["prompt"], [Path(image)]) for image in asked["images"]]
    scheduler = Scheduler(model, processor, max_sequences=asked["at_once"], max_new_tokens=asked["most"])
    prompts = [scheduler.preparer(0, request).inputs["input_ids"][0].tolist() for request in requests]
    start = time.perf_counter()
    found = {one.index: one for one in scheduler.run(enumerate(requests))}
    seconds = time.perf_counter() - start
    rows = [found[index] for index in range(len(requests))]
    return {
        "seconds": seconds,
        "prompts": prompts,
        "ids": [row.ids for row in rows],
        "texts": [row.text for row in rows],
    }


def by_vllm(asked: dict[str, Any]) -> dict[str, Any]:
    """The same by vLLM; run with the interpreter of its environment."""
    from PIL import Image
    from transformers import AutoProcessor
    from vllm import LLM, SamplingParams

    engine = LLM(
        model=asked["model"],
        dtype=asked["dtype"],
        max_model_len=4096,
        max_num_seqs=asked["at_once"],
        enforce_eager=True,
        limit_mm_per_prompt={"image": 1},
        mm_processor_kwargs={"num_crops": asked["crops"]} if asked["crops"] else None,
        seed=0,
    )
    content = [{"type": "image"}, {"type": "text", "text": asked["prompt"]}]
    chat = [{"role": "user", "content": content}]
    text = AutoProcessor.from_pretrained(asked["model"]).apply_chat_template(chat, add_generation_prompt=True)
    images = [Image.open(image).convert("RGB") for image in asked["images"]]
    prompts = [{"prompt": text, "multi_modal_data": {"image": image}} for image in images]
    sampling = SamplingParams(temperature=0, max_tokens=asked["most"])
    engine.generate(prompts[:1], sampling, use_tqdm=False)
    start = time.perf_counter()
    found = engine.generate(prompts, sampling, use_tqdm=False)
    return {
        "seconds": time.perf_counter() - start,
        "prompts": [list(one.prompt_token_ids) for one in found],
        "ids": [list(one.outputs[0].token_ids) for one in found],
        "texts": [one.outputs[0].text.strip() for one in found],
    }


def side(name: str, python: str, asked: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Run one side in a fresh process; what it found."""
    request, answer = scratch / f"{name}.ask.json", scratch / f"{name}.json"
    request.write_text(json.dumps(asked), encoding="utf-8")
    cores = {"OMP_NUM_THREADS": str(asked["threads"]), "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}  # the same for both
    cores["VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS"] = "3600"  # a step in bfloat16, where the CPU has no instructions for it
    settings = {**os.environ, **cores, "VLLM_CPU_KVCACHE_SPACE": "1"}
    subprocess.run([python, __file__, "--side", name, str(request), str(answer)], check=True, env=settings)
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return found


def task_of(model: Path) -> Any:
    """What the model is asked: its own task, or the default one."""
    from phisight.core.task import Task
    from phisight.export.task_file import TaskFile

    file = TaskFile.read(model)
    return file.task if file else Task()


def compared(mine: dict[str, Any], theirs: dict[str, Any], task: Any) -> dict[str, Any]:
    """How many rows are equal, and images a second of both."""
    rows = len(mine["ids"])
    left, right = ([task.parse(text).values for text in one["texts"]] for one in (mine, theirs))

    def equal(key: str) -> int:
        return sum(a == b for a, b in zip(mine[key], theirs[key], strict=True))

    return {
        "rows": rows,
        "prompts_equal": equal("prompts"),
        "answers_equal": equal("ids"),
        "fields_read": sum(values is not None for values in left),
        "fields_equal": sum(a == b for a, b in zip(left, right, strict=True)),
        "tokens": sum(map(len, mine["ids"])),
        "phisight_images_per_s": rows / mine["seconds"],
        "vllm_images_per_s": rows / theirs["seconds"],
    }


def main() -> None:
    if sys.argv[1:2] == ["--side"]:
        name, request, answer = sys.argv[2:]
        asked = json.loads(Path(request).read_text(encoding="utf-8"))
        found = {"phisight": by_phisight, "vllm": by_vllm}[name](asked)
        Path(answer).write_text(json.dumps(found), encoding="utf-8")
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", type=Path, help="an export")
    source.add_argument("--config", type=Path, help="folder with the published config.json and tokenizer")
    parser.add_argument("--data", type=Path, help="data set folder; none: drawn products")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--steps", type=int, default=0, help="train the made checkpoint so many steps")
    parser.add_argument("--most", type=int, default=48, help="most new tokens")
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--crops", type=int, help="crops of the two images more; none: as published, at least 4")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--vllm-python", default=".venv-engines/bin/python")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        data = options.data or drawn(options.images, scratch / "data")
        model = options.model
        if model is None:
            model = scratch / "model"
            make_checkpoint(options.config, model)
        if options.steps:
            model = trained_export(model, data, options.steps, scratch)
        found = {}
        for dtype in options.dtypes:
            asked = {
                "model": str(model),
                "images": images_of(data, options.images),
                "prompt": task_of(model).prompt,
                "most": options.most,
                "at_once": options.at_once,
                "threads": options.threads,
                "dtype": dtype,
                "crops": None,
            }
            cropped = {**asked, "images": asked["images"][:CROPPED_IMAGES], "crops": crops_of(options)}
            for name, wanted in ((dtype, asked), (f"{dtype}, {cropped['crops']} crops", cropped)):
                mine = side("phisight", sys.executable, wanted, scratch)
                theirs = side("vllm", options.vllm_python, wanted, scratch)
                found[name] = compared(mine, theirs, task_of(model))
                print(json.dumps({name: found[name]}, indent=2), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"steps": options.steps, **found}, indent=2) + "\n", encoding="utf-8")
    wrong = missed(found, typed=bool(options.model or options.steps))
    if wrong:
        raise SystemExit("; ".join(wrong))


def crops_of(options: argparse.Namespace) -> int:
    """The published number of crops: as asked for, else of the folder that was named, at least 4."""
    settings = json.loads(((options.model or options.config) / "preprocessor_config.json").read_text(encoding="utf-8"))
    return options.crops or max(4, int(settings["num_crops"]))


def missed(found: dict[str, Any], *, typed: bool) -> list[str]:
    """What is not as it must be: in float32 all is equal; with ``typed`` some fields must be read in every run."""
    wrong = []
    for name, one in found.items():
        for what in ("prompts", "answers", "fields"):
            if name.startswith("float32") and one[f"{what}_equal"] != one["rows"]:
                wrong.append(f"{name}: {what} of {one[f'{what}_equal']} of {one['rows']} rows are equal")
        if typed and not one["fields_read"] and "crops" not in name:
            wrong.append(f"{name}: no answer holds fields, so that equal ones prove nothing; train longer (--steps)")
    return wrong


if __name__ == "__main__":
    main()
