"""Aims of the benchmarks of serving, beside what was measured; a benchmark that misses one ends with 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

GROWTH = 1.05
"""Most that memory may grow."""


@dataclass(frozen=True)
class Aim:
    """A figure and what it should be."""

    name: str
    value: float
    target: str
    reached: bool


def report(aims: Sequence[Aim]) -> int:
    """Print each aim on a line; the exit code: 1 where one is missed."""
    for aim in aims:
        value = f"{aim.value:,}" if isinstance(aim.value, int) else f"{aim.value:.3g}"
        print(f"{aim.name}: {value}, target {aim.target}: {'reached' if aim.reached else 'MISSED'}")
    return int(not all(aim.reached for aim in aims))


def load_aims(figures: dict[str, Any], clients: int) -> list[Aim]:
    """Aims of ``serve.py``; a figure that was not measured (None) is a missed one."""
    rate = figures["all_clients_per_s"]
    return [
        _at_most(f"lost of {figures['answers']} answers", figures["lost"], 0),
        _at_most("wrong", figures["wrong"], 0),
        _at_least(f"{clients} clients / one", _ratio(rate, figures["one_client_per_s"]), 3),
        _at_least(f"{clients} clients / extract_many", _ratio(rate, figures["extract_many_per_s"]), 0.7),
        _at_most("p95 / median", _ratio(figures["p95_s"], figures["median_s"]), 5),
        _at_most(
            "memory at minute {:g} / at minute {:g}".format(*reversed(figures["memory_minutes"])),
            _ratio(*reversed(figures["memory_mb"])),
            GROWTH,
        ),
        _at_most("median beside 50 long requests / alone", _ratio(figures["beside_s"], figures["quiet_s"]), 2),
    ]


def _ratio(one: float | None, other: float | None) -> float:
    """NaN, which reaches nothing, where one of them was not measured."""
    return one / other if one is not None and other else float("nan")


def _at_most(name: str, value: float, most: float) -> Aim:
    return Aim(name, value, f"<= {most:g}", value <= most)


def _at_least(name: str, value: float, least: float) -> Aim:
    return Aim(name, value, f">= {least:g}", value >= least)
