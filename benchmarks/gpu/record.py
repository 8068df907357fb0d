"""Results as they come: one attempt after the other, each with its figures, its error, or why it was left out."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu.budget import Budget
from gpu.device import Device
from gpu.page import page_of

Figures = dict[str, Any]


class Record:
    """Figures by part and name; the files are written anew after each part."""

    def __init__(self, folder: Path, about: Figures, device: Device, budget: Budget) -> None:
        self.folder = folder
        self.about = about
        self.device = device
        self.budget = budget
        self.parts: dict[str, Figures] = {}
        self.began = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def stem(self) -> str:
        """Name of the files: card, year and month."""
        words = "".join(sign if sign.isalnum() else " " for sign in self.device.name.lower()).split()
        return "-".join([*words, time.strftime("%Y-%m")])

    def attempt(self, part: str, name: str, needs: float, call: Callable[[], Figures]) -> Figures | None:
        """Run one measurement that takes about ``needs`` seconds; a fault is written down and nothing else stops."""
        figures = self.parts.setdefault(part, {})
        if why := self.budget.lacks(needs):
            figures[name] = {"skipped": why}
            print(f"   {name}: skipped, {why}", flush=True)
            return None
        start = time.monotonic()
        try:
            figures[name] = call()
        except Exception as error:
            figures[name] = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
            with (self.folder / "errors.txt").open("a", encoding="utf-8") as file:
                file.write(f"== {part} / {name}\n{''.join(traceback.format_exception(error))}\n")
            print(f"   {name}: FAILED {figures[name]['error']}\n{_last_lines(error)}", flush=True)
            return None
        finally:
            self.device.release()
            figures[name]["took_s"] = round(time.monotonic() - start, 2)
        print(f"   {name}: {_short(figures[name])}", flush=True)
        measured: Figures = figures[name]
        return measured

    def figure(self, part: str, name: str, key: str) -> Any:
        """A figure measured before; none where there is none."""
        return self.parts.get(part, {}).get(name, {}).get(key)

    def save(self) -> None:
        """Write JSON and page."""
        self.about["seconds"] = round(time.monotonic() - self.began, 1)
        values = {"about": self.about, "parts": self.parts}
        (self.folder / f"{self.stem}.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        (self.folder / f"{self.stem}.md").write_text(page_of(values), encoding="utf-8")


def _last_lines(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return "\n".join(f"      {Path(frame.filename).name}:{frame.lineno} {frame.line}" for frame in frames)


def _short(figures: Figures) -> str:
    shown = []
    for key, value in figures.items():
        if isinstance(value, bool | int | str):
            shown.append(f"{key} {str(value)[:60]}")
        elif isinstance(value, float):
            shown.append(f"{key} {value:.4g}")
        elif isinstance(value, dict):
            shown.append(f"{key} { ({k: round(v, 4) if isinstance(v, float) else v for k, v in value.items()}) }")
    return "  ".join(shown)
