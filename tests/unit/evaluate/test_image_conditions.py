"""Which image a row is shown."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phisight.core.errors import EvaluationError
from phisight.core.task import Task
from phisight.data.images.recorded import RecordedImage
from phisight.evaluate.image_conditions import images_shown, shown_rows
from phisight.evaluate.rows import EvalRow


def rows(contents: list[str], titles: list[str] | None = None, categories: str | None = None) -> list[EvalRow]:
    titles = titles or [str(place) for place in range(len(contents))]
    categories = categories or "A" * len(contents)
    return [
        EvalRow(f"K{place}", Path(content), {"title": title, "category3_code": category, "full_price": 1.0}, "")
        for place, (content, title, category) in enumerate(zip(contents, titles, categories, strict=True))
    ]


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xyz")), min_size=2, max_size=40), st.integers(0, 9)
)
def test_no_row_keeps_its_image_where_none_rules_the_split(drawn: list[tuple[str, str]], seed: int) -> None:
    images = [image for image, _ in drawn]
    if max(images.count(one) for one in images) * 2 > len(images):
        return
    shown = shown_rows(rows(images, [title for _, title in drawn]), Task(), "shuffled", seed)
    assert sorted(row for row in shown if row is not None) == list(range(len(drawn)))
    assert all(images[row] != images[other] for row, other in enumerate(shown) if other is not None)


@given(st.lists(st.sampled_from("uvwxyz"), min_size=2, max_size=40), st.integers(0, 9))
def test_no_row_gets_an_image_with_its_own_answer(titles: list[str], seed: int) -> None:
    if max(titles.count(one) for one in titles) * 2 > len(titles):
        return
    shown = shown_rows(rows([str(place) for place in range(len(titles))], titles), Task(), "shuffled", seed)
    assert all(titles[row] != titles[other] for row, other in enumerate(shown) if other is not None)


def test_one_answer_for_most_rows_still_swaps_every_image() -> None:
    shown = shown_rows(rows(list("abcdef"), ["same"] * 5 + ["other"]), Task(), "shuffled", 0)
    assert all(row != other for row, other in enumerate(shown))


def test_another_seed_swaps_otherwise() -> None:
    many = rows([str(place) for place in range(30)])
    assert shown_rows(many, Task(), "shuffled", 1) == shown_rows(many, Task(), "shuffled", 1)
    assert shown_rows(many, Task(), "shuffled", 1) != shown_rows(many, Task(), "shuffled", 2)


def test_mismatched_images_are_of_another_category() -> None:
    categories = "AABBCC" * 3
    shown = shown_rows(rows([str(place) for place in range(18)], categories=categories), Task(), "mismatched", 0)
    assert all(other is not None and categories[row] != categories[other] for row, other in enumerate(shown))


def test_what_cannot_be_swapped_is_named() -> None:
    with pytest.raises(EvaluationError, match="1 rows with 1 different image"):
        shown_rows(rows(["a"]), Task(), "shuffled", 0)
    with pytest.raises(EvaluationError, match="3 rows with 1 different image"):
        shown_rows(rows(["a", "a", "a"]), Task(), "shuffled", 0)
    with pytest.raises(EvaluationError, match="at least two values"):
        shown_rows(rows(["a", "b"]), Task(), "mismatched", 0)


def test_a_blank_has_the_size_of_the_row_s_own_image(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.png")
    (row,) = rows([str(tmp_path / "a.png")])
    [make] = images_shown([row], 0, None)
    assert callable(make)
    assert make().size == (30, 20)
    assert make().getcolors() == [(600, (127, 127, 127))]


def test_several_images_of_a_product_are_exchanged_together(tmp_path: Path) -> None:
    rows = [EvalRow(key, tmp_path / f"{key}1.png", {}, "", key, (tmp_path / f"{key}2.png",)) for key in "ab"]
    shown = images_shown(rows, 0, 1)
    assert [one.path for one in shown if isinstance(one, RecordedImage)] == [tmp_path / "b1.png", tmp_path / "b2.png"]
    assert len(images_shown(rows, 0, None)) == 2
