"""The results as a Markdown page: one table a part, what failed or was left out named in its row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Figures = Mapping[str, Any]
TITLES = {
    "matrix": "1. What the card can do at most",
    "lora": "2. LoRA on all layers",
    "top": "3. LoRA on the top quarter of the layers, hidden states cached",
    "full": "4. Every weight, and QLoRA",
    "generation": "5. Generation",
    "images": "6. The image pipeline",
    "equality": "7. The same numbers",
    "compiled": "8. Compiled layers and Liger's kernels",
}
HIDDEN = ("error", "skipped", "took_s", "first_step_s", "reserved_gb", "loss")
STEPS = ("images/s", "tokens/s", "TFLOP/s", "of the matrix rate", "peak GB", "micro-batch", "against plain")
COLUMNS: dict[str, tuple[str, ...]] = {
    "generation": (
        "tokens_per_s",
        "step_ms",
        "eager_step_ms",
        "prefill_s",
        "answers_per_s",
        "share_of_bandwidth",
        "peak_gb",
        "tokens_as_the_librarys",
    ),
}


def page_of(values: Figures) -> str:
    """Everything that was measured."""
    about = values["about"]
    lines = [f"# {about['device']}, {about['month']}", "", _sentence(about), ""]
    for part, figures in values["parts"].items():
        lines += [f"## {TITLES[part]}", "", *_part(part, figures), ""]
    return "\n".join(lines).rstrip() + "\n"


def _sentence(about: Figures) -> str:
    told = [f"{name} {value}" for name, value in about.items() if name not in ("device", "month")]
    return (
        f"`make bench-gpu`; {', '.join(told)}. Random weights in the shapes of Phi-3.5-vision-instruct, random "
        "images; attention by torch's sdpa (flash attention's package was not installed). TFLOP/s count what the "
        "arithmetic asks for: no recomputation, no gradients of frozen weights."
    )


def _part(part: str, figures: Figures) -> list[str]:
    if part in ("lora", "top", "full", "compiled"):
        return _steps(figures)
    found = dict.fromkeys(
        k for one in figures.values() for k, value in one.items() if not isinstance(value, list | dict)
    )
    names = COLUMNS.get(part) or tuple(name for name in found if name not in HIDDEN)
    head = ["", *(name.replace("_", " ") for name in names)]
    return _table(head, [[name, *_cells(one, names)] for name, one in figures.items()])


def _steps(figures: Figures) -> list[str]:
    rows = []
    for name, one in figures.items():
        if note := _note(one):
            rows.append([name, note, *[""] * (len(STEPS) - 1)])
            continue
        rows.append(
            [
                name,
                f"{one['images_per_s']:.2f}",
                _number(one.get("tokens_per_s"), 0),
                _number(one.get("model_tflops"), 0),
                _percent(one.get("share_of_matrix_rate")),
                f"{one['peak_gb']:.1f}",
                str(one["micro_batch"]),
                _against_plain(name, figures),
            ]
        )
    waits = [
        f"{name}: {one['data_wait']:.1%} of the time was waiting for data."
        for name, one in figures.items()
        if "data_wait" in one
    ]
    return [*_table(["", *STEPS], rows), *(["", *waits] if waits else [])]


def _against_plain(name: str, figures: Figures) -> str:
    told = name.split(":")[0]
    plain = figures.get(f"{told}: plain, micro-batches of one", {}).get("images_per_s")
    mine = figures[name].get("images_per_s")
    return f"{mine / plain:.2f} x" if plain and ":" in name else ""


def _cells(one: Figures, names: tuple[str, ...]) -> list[str]:
    if note := _note(one):
        return [note, *[""] * (len(names) - 1)]
    return [_percent(one.get(n)) if "share" in n or n == "data_wait" else _number(one.get(n)) for n in names]


def _note(one: Figures) -> str:
    if "error" in one:
        return f"failed: {one['error'][:100]}".replace("|", "/")
    return f"left out: {one['skipped']}" if "skipped" in one else ""


def _number(value: Any, digits: int | None = None) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value).replace("|", "/")
    return f"{value:,.{digits}f}" if digits is not None else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
