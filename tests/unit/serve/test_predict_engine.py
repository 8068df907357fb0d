"""``phisight predict --engine openai`` against phisight's own server: the answers of the model itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from phisight.extraction.answer import AnswerReader
from phisight.extraction.chat_client import ChatClient
from phisight.extraction.extractor import Extractor
from phisight.extraction.openai_engine import OpenAIEngine
from tests.helpers import served


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served.running() as (url, _):
        yield url


def test_the_answers_are_those_of_the_model(address: str, tmp_path: Path) -> None:
    images = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        path.write_bytes(served.image_bytes(number) if number != 3 else b"no image")
        images.append(path)
    remote = Extractor(
        "tiny", OpenAIEngine(ChatClient(f"{address}/v1", None), served.MOST_TOKENS), AnswerReader(served.TASK)
    )
    found = list(remote.extract_many(images, batch_size=3))
    alone = list(served.extractor().extract_many(images, batch_size=3))
    assert [dict(one) for one in found] == [dict(one) for one in alone]
    assert [one.ok for one in found] == [number != 3 for number in range(6)]
    for one, other in zip(found, alone, strict=True):
        # The protocol has no log-probability for the token that ends an answer, which counts for the last field.
        last = served.TASK.names[-1]
        assert one.confidence.pop(last, 0.0) >= other.confidence.pop(last, 0.0) - 1e-4
        assert one.confidence == pytest.approx(other.confidence, abs=1e-4)
