"""malloc returns the freed memory of a large model at once; for a small one, or without glibc, nothing is changed."""

import ctypes
import sys

import pytest
from torch import nn

from phisight.train.acceleration.freed_memory import return_freed_memory

M_MMAP_THRESHOLD = -3  # glibc's malloc.h


class Library:
    """A C library that notes how malloc is set."""

    def __init__(self, accepts: bool = True) -> None:
        self.accepts, self.calls = accepts, list[tuple[int, int]]()

    def mallopt(self, name: int, value: int) -> int:
        self.calls.append((name, value))
        return int(self.accepts)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(sys, "platform", "linux")
    return library


def test_tensors_of_a_megabyte_and_more_are_mapped_for_a_large_model(library: Library) -> None:
    assert return_freed_memory(nn.Linear(4096, 4096, bias=False))  # 64 MiB
    assert library.calls == [(M_MMAP_THRESHOLD, 2**20)]


def test_a_small_model_leaves_malloc_as_it_is(library: Library) -> None:
    assert not return_freed_memory(nn.Linear(4096, 4095, bias=False))
    assert not return_freed_memory(nn.Linear(4096, 4096, bias=False, device="meta"))
    assert not library.calls


def test_a_malloc_that_declines_is_reported(library: Library) -> None:
    library.accepts = False
    assert not return_freed_memory(nn.Linear(4096, 4096, bias=False))


def test_a_library_without_mallopt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not return_freed_memory(nn.Linear(4096, 4096, bias=False))
