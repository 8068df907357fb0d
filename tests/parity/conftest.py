"""Quiet loading, and one thread: the recorded models are small, and threads that wait for each other burn the time."""

from collections.abc import Iterator

import pytest
import torch
from transformers.utils import logging

logging.disable_progress_bar()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Before anything that is computed once for the session."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
