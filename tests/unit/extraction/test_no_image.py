"""What is handed to ``extract_many`` and can be no image costs its own answer, in a line."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from phisight.core.errors import ImageError, SettingsError
from phisight.core.task import Task
from phisight.extraction.answer import Answer, AnswerReader
from phisight.extraction.extractor import Extractor
from phisight.generate.requests import Request, load_rgb

TASK = Task(answer="Name: {title}", fields={"title": "text"})
GOOD = Image.new("RGB", (8, 8))
NO_IMAGES: list[Any] = [None, [], (), 7, 1.5, {}, {"path": "a.jpg"}, object(), np.zeros((8, 8, 3), np.uint8)]
NO_IMAGES += [bytearray(b"x"), io.BytesIO(b"x"), Image.new("RGB", (0, 8)), [GOOD, None], [[GOOD]], {GOOD.size}]


class Reads:
    """An engine that only looks at the images."""

    def run(self, requests: Any, _reader: AnswerReader, *, at_once: int, workers: int) -> Iterator[tuple[int, Answer]]:
        def answer(request: Request) -> Answer:
            try:
                sizes = [load_rgb(image).size for image in request.images]
            except ImageError as error:
                return Answer(error=f"image: {error}")
            return Answer({"title": str(sizes)}, text=str(sizes))

        assert at_once > 0
        assert workers > 0
        for index, request in requests:
            yield index, answer(request)


@pytest.fixture
def extractor() -> Extractor:
    return Extractor("a model", Reads(), AnswerReader(TASK))


@pytest.mark.parametrize("given", NO_IMAGES, ids=lambda one: type(one).__name__)
def test_it_costs_its_own_answer(given: Any, extractor: Extractor) -> None:
    before, bad, behind = extractor.extract_many([GOOD, given, (GOOD, GOOD)])
    assert (before["title"], behind["title"]) == ("[(8, 8)]", "[(8, 8), (8, 8)]")
    assert bad.error is not None
    assert bad.error.startswith("image: ")
    assert "\n" not in bad.error
    assert len(bad.error) < 200


@pytest.mark.parametrize("given", NO_IMAGES, ids=lambda one: type(one).__name__)
def test_extract_names_it(given: Any, extractor: Extractor) -> None:
    with pytest.raises(ImageError):
        extractor.extract(given)


@pytest.mark.parametrize("given", ["photo.jpg", Path("photo.jpg"), b"bytes", GOOD], ids=lambda one: type(one).__name__)
def test_one_image_is_not_many(given: Any, extractor: Extractor) -> None:
    with pytest.raises(SettingsError, match="put it into a list, or call extract"):
        next(extractor.extract_many(given))
