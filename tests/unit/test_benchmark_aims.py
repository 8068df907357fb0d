"""Benchmarks that end with an error where an aim is missed."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
EQUAL = {"rows": 50, "prompts_equal": 50, "answers_equal": 50, "fields_equal": 50, "fields_read": 30}


def benchmark(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("ratio", "growth", "same", "words"),
    [
        (10.0, 0.05, 100, []),
        (9.9, 0.0, 100, ["9.9 x where 10 x is due"]),
        (12.0, 0.06, 100, ["+6.0% memory where 5% is allowed"]),
        (12.0, 0.0, 98, ["only 98 of 100 answers are the same"]),
        (1.0, 0.5, 0, ["only 0 of 100", "1.0 x", "+50.0%"]),
    ],
)
def test_prediction(ratio: float, growth: float, same: int, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    found = benchmark("predict").missed(ratio, growth, same, 100)
    assert len(found) == len(words)
    assert all(line.startswith(word) for line, word in zip(found, words, strict=True))


@pytest.mark.parametrize(
    ("name", "changes", "typed", "count"),
    [
        ("float32", {}, True, 0),
        ("float32", {"fields_read": 0}, True, 1),
        ("bfloat16", {"fields_read": 0}, True, 1),
        ("float32", {"fields_read": 0}, False, 0),
        ("float32", {"prompts_equal": 49}, True, 1),
        ("float32", {"answers_equal": 49, "fields_equal": 49}, True, 2),
        ("bfloat16", {"answers_equal": 40, "fields_equal": 49}, True, 0),
        ("float32, 16 crops", {"fields_read": 0}, True, 0),
        ("float32, 16 crops", {"prompts_equal": 1}, False, 1),
    ],
)
def test_engines(name: str, changes: dict[str, int], typed: bool, count: int) -> None:
    assert len(benchmark("engines").missed({name: {**EQUAL, **changes}}, typed=typed)) == count
