"""Answers in batches: every request once, right image, flat memory, nothing lost."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from phisight.core.errors import (
    ElongatedImageError,
    EvaluationError,
    ImageError,
    MissingImageError,
    UnreadableImageError,
)
from phisight.generate import Predictor, Request, load_rgb
from tests.helpers.fake_model import FakeModel, FakeProcessor


def color_answer(red: int, green: int, blue: int) -> str:
    return f"{red},{green},{blue}"


def image(value: int, width: int = 8) -> Image.Image:
    return Image.new("RGB", (width, 8), (value, 0, 255 - value))


def predictor(**options: Any) -> Predictor:
    return Predictor(FakeModel(color_answer), FakeProcessor(), **options)


def test_every_request_is_answered_once_from_its_own_image() -> None:
    requests = [Request("What?" * (1 + index % 3), [image(index, 4 + index % 5)]) for index in range(50)]
    answers = dict(predictor(batch_size=8).answers(requests))
    assert answers == {index: f"{index},0,{255 - index}" for index in range(50)}


def test_requests_with_and_without_images_and_with_several() -> None:
    requests = [Request("a"), Request("b", [image(9), image(20)]), Request("c", [image(5)])]
    assert dict(predictor().answers(requests)) == {0: "0,0,0", 1: "9,0,246", 2: "5,0,250"}


def test_requests_of_one_shape_share_a_batch() -> None:
    model, processor = FakeModel(color_answer), FakeProcessor()
    widths = [4, 16] * 4
    seen: list[set[int]] = []
    encode = FakeProcessor.__call__

    class Watching(FakeProcessor):
        def __call__(self, text: Any, images: Any, **kwargs: Any) -> Any:
            seen.append({image.width for row in images for image in row})
            return encode(self, text, images, **kwargs)

    processor = Watching()
    requests = [Request("a", [image(index, width)]) for index, width in enumerate(widths)]
    assert len(dict(Predictor(model, processor, batch_size=4).answers(requests))) == 8
    assert sorted(map(sorted, seen)) == [[4], [16]]


def test_requests_are_taken_as_they_are_needed() -> None:
    taken = []

    def endless() -> Any:
        for index in range(10**9):
            taken.append(index)
            yield Request("a", [image(index % 256)])

    answers = predictor(batch_size=2).answers(endless())
    for _ in range(4):
        next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert len(taken) <= 2 * 128


def test_the_next_batch_is_prepared_in_another_thread() -> None:
    threads = set()

    def make() -> Image.Image:
        threads.add(threading.current_thread().name)
        return image(1)

    list(predictor(batch_size=1).answers([Request("a", [make])] * 3))
    assert threads
    assert threading.main_thread().name not in threads


@pytest.mark.parametrize("broken", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_an_image_that_cannot_be_used_costs_its_own_answer_only(broken: bytes, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(broken)
    requests = [
        Request("a", [image(1)]),
        Request("a", [tmp_path / "broken.jpg"]),
        Request("a", [tmp_path / "gone.jpg"]),
    ]
    failures: dict[int, ImageError] = {}
    assert dict(predictor().answers(requests, on_failure=failures.__setitem__)) == {0: "1,0,254"}
    assert isinstance(failures[1], UnreadableImageError)
    assert isinstance(failures[2], MissingImageError)
    with pytest.raises(ImageError):
        list(predictor().answers(requests))


def test_half_a_jpeg_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "half.jpg"
    Image.effect_noise((64, 64), 50).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UnreadableImageError, match=r"half\.jpg"):
        load_rgb(path)


def test_an_image_the_processor_refuses_costs_its_own_answer_only() -> None:
    class Strict(FakeProcessor):
        def __call__(self, text: Any, images: Any, **kwargs: Any) -> Any:
            if any(image.width > 100 for row in images for image in row):
                raise ElongatedImageError("an image of 200 x 8 pixels is too long")
            return super().__call__(text, images, **kwargs)

    requests = [Request("a", [image(1)]), Request("a", [image(2, 200)]), Request("a", [image(3)])]
    failures: dict[int, ImageError] = {}
    working = Predictor(FakeModel(color_answer), Strict())
    assert dict(working.answers(requests, on_failure=failures.__setitem__)) == {0: "1,0,254", 2: "3,0,252"}
    assert list(failures) == [1]


def test_a_batch_too_large_for_memory_goes_on_in_halves() -> None:
    class Small(FakeModel):
        def generate(self, input_ids: Any, attention_mask: Any, **kwargs: Any) -> Any:
            if len(input_ids) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().generate(input_ids, attention_mask, **kwargs)

    model = Small(color_answer)
    requests = [Request("a", [image(index)]) for index in range(8)]
    assert len(dict(Predictor(model, FakeProcessor(), batch_size=8).answers(requests))) == 8
    assert model.calls == [2, 2, 2, 2]


def test_model_and_tokenizer_are_left_as_they_were() -> None:
    model, processor = FakeModel(color_answer), FakeProcessor()
    list(Predictor(model, processor).answers([Request("a", [image(1)])]))
    assert model.training
    assert processor.tokenizer.padding_side == "right"


def test_answers_end_at_the_token_limit() -> None:
    assert dict(predictor(max_new_tokens=3).answers([Request("a", [image(123)])])) == {0: "123"}


def test_no_requests() -> None:
    assert list(predictor().answers([])) == []


@pytest.mark.parametrize("setting", ["batch_size", "max_new_tokens"])
def test_settings_below_one_are_refused(setting: str) -> None:
    with pytest.raises(EvaluationError, match="at least 1"):
        predictor(**{setting: 0})


def test_likelihood_of_the_answer_the_model_would_give_and_of_another() -> None:
    requests = [Request("What?" * index, [image(7)]) for index in (1, 2, 3)]
    right, total = "7,0,248", math.log(math.exp(5) + 258)
    found = dict(predictor(batch_size=2).likelihoods(requests, [right, "7,0,24", "9,0,248"]))
    assert found[0].log_probability == pytest.approx(7 * (5 - total))
    assert (found[0].tokens, found[1].tokens) == (7, 6)
    assert found[1].log_probability == pytest.approx(6 * (5 - total))
    assert found[2].log_probability == pytest.approx(6 * (5 - total) - total)
    assert found[2].forced == right


def test_an_empty_answer_cannot_be_scored() -> None:
    with pytest.raises(EvaluationError, match="no tokens"):
        list(predictor().likelihoods([Request("a", [image(1)])], [""]))
