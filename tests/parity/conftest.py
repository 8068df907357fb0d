"""Quiet loading, and one thread: the recorded models are small, and threads that wait for each other burn the time."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers.utils import logging

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every case on both attention implementations."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.slow)


logging.disable_progress_bar()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Before anything that is computed once for the session."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
