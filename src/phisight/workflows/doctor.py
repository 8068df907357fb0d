"""Machine and recipe before a run: one finding a line, each with its repair. Nothing is downloaded or loaded."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers.utils import cached_file

from phisight.core.errors import PhisightError, SettingsError
from phisight.core.run_folder import CONFIG
from phisight.core.settings import Recipe
from phisight.data.dataset.folder import DatasetFolder
from phisight.export.merge import ADAPTER_CONFIG
from phisight.export.subject import subject_of
from phisight.model.attention import PACKAGES, require_backend
from phisight.model.checkpoint import within
from phisight.model.tiny import TINY_BASE
from phisight.train.acceleration.bfloat16 import bfloat16_is_slow, computes_bfloat16, multiplies_bfloat16
from phisight.workflows.load import TINY

HUB_S = 5.0
"""Seconds for an answer of the hub, or of a tool."""
LEAST_DISK = 10e9
"""Bytes on disk below which caches and checkpoints of a published model do not fit."""
Verdict = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    about: str
    verdict: Verdict
    text: str
    repair: str = ""
    """What to do about it; empty where nothing has to be done."""


def examine(recipe: Recipe | None = None) -> Iterator[Finding]:
    """Look at the machine, and at what a recipe needs of it."""
    yield _versions()
    yield from _gpu()
    yield from _backends(recipe)
    yield _memory()
    yield _disk(Path.cwd() if recipe is None else recipe.out)
    if recipe is not None:
        yield _model(recipe.model.name, recipe.model.revision)
        yield _data(recipe)
        yield from _settings(recipe)


def _versions() -> Finding:
    names = ("torch", "transformers", "peft", "accelerate")
    return Finding("versions", "ok", ", ".join(f"{name} {metadata.version(name)}" for name in names))


def _driver() -> str:
    """Version of NVIDIA's driver, as its own tool tells it; empty where there is none or it does not answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=HUB_S)  # noqa: S603
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return next(iter(answer.stdout.split()), "")


def _gpu() -> Iterator[Finding]:
    driver = _driver()
    if driver:
        yield Finding("driver", "ok", f"NVIDIA {driver}")
    if not torch.cuda.is_available():
        built = torch.version.cuda
        repair = (
            "the installed torch is built for CPUs; install a CUDA build to use a GPU"
            if built is None
            else f"torch is built for CUDA {built} but sees no GPU; look at `nvidia-smi` and at CUDA_VISIBLE_DEVICES"
        )
        yield Finding("GPU", "note", "none: training runs on the CPU, which suits the tiny model", repair)
        yield _bfloat16("this CPU", "note", "leave train.bf16 at auto or false, weights in float32")
        return
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        scarce = free < 0.8 * total
        yield Finding(
            f"GPU {index}",
            "note" if scarce else "ok",
            f"{card.name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free, CUDA {torch.version.cuda}",
            "another process holds its memory; `nvidia-smi` names it" if scarce else "",
        )
    repair = "set train.bf16 to auto or false and model.dtype to float32, or take a card of 2020 or later"
    yield _bfloat16("the card", "wrong", repair)
    triton = importlib.util.find_spec("triton") is not None
    compiler = any(shutil.which(os.environ.get("CC", name)) for name in ("gcc", "clang", "cc"))
    yield Finding(
        "fused kernels",
        "ok" if triton and compiler else "note",
        "Triton and a C compiler are there" if triton and compiler else "elementwise chains run one by one, slower",
        "" if triton and compiler else f"install {'a C compiler' if triton else 'triton'}",
    )


def _backends(recipe: Recipe | None) -> Iterator[Finding]:
    found = [name for name, (module, _) in PACKAGES.items() if importlib.util.find_spec(module)]
    have = ["sdpa", "eager", *found, *(["flex_attention"] if torch.cuda.is_available() else [])]
    yield Finding("attention", "ok", f"usable: {', '.join(have)}")
    if recipe is None:
        return
    try:
        require_backend(recipe.model.attention)
    except SettingsError as error:
        yield Finding("model.attention", "wrong", recipe.model.attention, str(error))


def _memory() -> Finding:
    if not hasattr(os, "sysconf") or "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return Finding("memory", "note", "free memory is not told by this system")
    page = os.sysconf("SC_PAGE_SIZE")
    free, total = os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page
    return Finding("memory", "ok", f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free, {os.cpu_count()} cores")


def _disk(folder: Path) -> Finding:
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    little = free < LEAST_DISK
    return Finding(
        "disk",
        "note" if little else "ok",
        f"{free / 1e9:.1f} GB free for {folder}",
        "caches and checkpoints of a published model take tens of GB; set out to another disk" if little else "",
    )


def _model(name: str, revision: str | None = None) -> Finding:
    if name == TINY:
        return Finding("model", "ok", "tiny, made anew")
    if name == TINY_BASE:
        return Finding("model", "ok", f"{TINY_BASE}, comes with phisight")
    folder = Path(name)
    if (folder / CONFIG).is_file() or ((folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()):
        return _trained(folder)
    if folder.is_dir():
        config, weights = (folder / "config.json").is_file(), any(folder.glob("*.safetensors"))
        lacking = [what for what, there in (("config.json", config), ("weights", weights)) if not there]
        if lacking:
            repair = "copy the folder again, or name another one in model.name"
            return Finding("model", "wrong", f"{folder} has no {' and no '.join(lacking)}", repair)
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        return Finding("model", "ok", f"{folder}, {size / 1e9:.2f} GB of weights")
    try:
        cached = cached_file(
            name, "config.json", revision=revision, local_files_only=True,
            _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
        )  # fmt: skip
    except (OSError, ValueError):  # no name that a hub could have: it says so
        cached = None
    if cached:
        return Finding("model", "ok", f"{name}, from the hub's cache on this machine")
    return _on_the_hub(name, revision)


def _on_the_hub(name: str, revision: str | None) -> Finding:
    """Whether the hub has a model by that name, asked of its config.json's header for seconds at most."""
    try:
        url = hf_hub_url(name, "config.json", revision=revision)
        within(HUB_S, lambda: get_hf_file_metadata(url, timeout=HUB_S))
    except GatedRepoError:
        return Finding("model", "wrong", f"{name} is gated", "accept its terms on the hub, then `hf auth login`")
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError, HFValidationError) as error:
        what = {RevisionNotFoundError: f"no revision {revision!r}", EntryNotFoundError: "no config.json"}
        lacking = next((text for kind, text in what.items() if isinstance(error, kind)), "no such model")
        repair = "correct model.name (OWNER/NAME) or model.revision; for a private one, `hf auth login`"
        return Finding("model", "wrong", f"{name}: the hub has {lacking}", repair)
    except Exception as error:  # whatever the HTTP library calls it
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        text = f"{name} is not on this machine, and the hub cannot be reached ({reason})"
        return Finding("model", "note", text, f"hf download {name}, on a machine that reaches it")
    return Finding("model", "ok", f"{name}, on the hub; the first run fetches it")


def _trained(folder: Path) -> Finding:
    """A run, or a folder of adapters, that training starts from."""
    try:
        subject = subject_of(folder)
    except PhisightError as error:
        return Finding("model", "wrong", f"{folder} cannot be started from", str(error))
    onto = f", adapters on {subject.weights}" if subject.adapters else ""
    return Finding("model", "ok", f"{folder}{onto}")


def _bfloat16(device: str, verdict: Literal["note", "wrong"], repair: str) -> Finding:
    """Whether a device has instructions that multiply bfloat16; the verdict and its repair where it has none."""
    if multiplies_bfloat16():
        return Finding("bfloat16", "ok", f"computed by {device}")
    return Finding("bfloat16", verdict, f"no instructions in {device}: a tenth of the rate in float32", repair)


def _data(recipe: Recipe) -> Finding:
    try:
        folder = DatasetFolder.open(recipe.data.path)
    except PhisightError as error:
        return Finding("data", "wrong", str(recipe.data.path), str(error))
    counts = ", ".join(f"{len(folder.rows(split))} {split}" for split in folder.split_names)
    return Finding("data", "ok", f"{recipe.data.path}: {counts}")


def _settings(recipe: Recipe) -> Iterator[Finding]:
    train, gpu = recipe.train, torch.cuda.is_available()
    bf16 = computes_bfloat16(train)
    slow = bf16 and bfloat16_is_slow()
    computes = "bfloat16 (autocast)" if bf16 else f"the weights' own type ({recipe.model.dtype})"
    yield Finding(
        "recipe",
        "note" if slow else "ok",
        f"{train.method} on the {'GPU' if gpu else 'CPU'} in {computes}, attention {recipe.model.attention}, "
        f"batches of {train.batch_size} x {train.accumulate}"
        + (": ten times as slow as float32 on this CPU" if slow else ""),
        "set train.bf16 to auto" if slow else "",
    )
    if gpu and not bf16 and recipe.model.dtype == "float32":
        yield Finding(
            "products",
            "note",
            "float32, about a tenth of the card's bfloat16 rate",
            "set train.bf16 to true, or model.dtype to bfloat16",
        )
    for setting, wanted, package in (
        ("train.liger", train.liger, "liger_kernel"),
        ("train.method qlora", train.method == "qlora", "bitsandbytes"),
    ):
        if wanted and importlib.util.find_spec(package) is None:
            extra = "liger" if package == "liger_kernel" else "quantize"
            yield Finding(setting, "wrong", f"{package} is not installed", f"pip install 'phisight[{extra}]'")
    if train.liger and not gpu:
        yield Finding("train.liger", "wrong", "needs a GPU and there is none", "set train.liger to false")
