"""The small model of tests/golden and its processor."""

from collections.abc import Iterator

import pytest
import torch
from transformers.utils import logging

from phisight.model import Phi3VisionForConditionalGeneration, Phi3VProcessor
from tests.helpers import small_model

logging.disable_progress_bar()


@pytest.fixture
def model() -> Phi3VisionForConditionalGeneration:
    """A fresh small model in float32."""
    return small_model.model()


@pytest.fixture
def processor() -> Phi3VProcessor:
    """A fresh processor of the small model, six crops."""
    return small_model.processor()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The small model's products are too small to share among threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
