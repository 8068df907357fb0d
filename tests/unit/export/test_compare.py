"""Whether run and export answer alike: by logits in float32, by parsed fields in 16 bits."""

from pathlib import Path

import pytest
import torch

from phisight.core.errors import CheckpointError
from phisight.core.task import Task
from phisight.export.compare import Observation, require_equal

TASK = Task()
ANSWER = TASK.render({name: {"text": "Scarf", "category": "SCARVES", "number": 4.0}[str(field.kind)] for name, field in TASK.fields.items()})  # fmt: skip  # noqa: E501
LOGITS = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))


def seen(text: str = ANSWER, logits: torch.Tensor = LOGITS, dtype: str = "float32") -> Observation:
    return Observation(dtype, [ANSWER, text], [LOGITS, logits])


def compared(run: Observation, export: Observation) -> str:
    return require_equal(run, export, TASK, ["a.jpg", "b.jpg"])


def test_equal_sides() -> None:
    assert "greedy answers of 2 rows equal, logits within 0.0e+00" in compared(seen(), seen())
    assert "in bfloat16: parsed fields of 2 rows equal, first logits correlated by at least 1.000" in compared(
        seen(dtype="bfloat16"), seen(dtype="bfloat16")
    )


@pytest.mark.parametrize(
    "export",
    [
        seen(logits=LOGITS + 2e-4),
        seen(logits=LOGITS[:2]),
        seen(text=ANSWER.replace("Scarf", "Scarves")),
        seen(text="nonsense"),
        seen(text=ANSWER + " "),
    ],
)
def test_in_float32_every_difference_counts(export: Observation) -> None:
    with pytest.raises(CheckpointError, match=r"b\.jpg.*nothing was exported") as found:
        compared(seen(), export)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("size", [1.0, 10.0, 1000.0])
def test_logits_may_differ_by_a_share_of_the_largest(size: float) -> None:
    large = LOGITS * size / LOGITS.abs().max()
    allowed = max(1e-4, 1e-5 * size)
    run = Observation("float32", [ANSWER], [large])
    require_equal(run, Observation("float32", [ANSWER], [large + 0.8 * allowed]), TASK, ["a.jpg"])
    for other in (large + 1.5 * allowed, large * torch.inf, large * torch.nan):
        differs = Observation("float32", [ANSWER], [other])
        for left, right in ((run, differs), (differs, run)):
            with pytest.raises(CheckpointError, match="logits differ by"):
                require_equal(left, right, TASK, ["a.jpg"])


NOISE = torch.randn(LOGITS.shape, generator=torch.Generator().manual_seed(1))
ROUNDED = LOGITS + 0.02 * NOISE
OTHER = (LOGITS + 0.5 * NOISE, -LOGITS, LOGITS * torch.nan, LOGITS[:, :40])


def test_in_16_bits_fields_count() -> None:
    assert "parsed fields of 2 rows equal, first" in compared(seen(), seen(logits=ROUNDED, dtype="bfloat16"))
    for text in (ANSWER.replace("SCARVES", "HATS"), "nonsense"):
        with pytest.raises(CheckpointError, match="export it with --dtype float32"):
            compared(seen(), seen(text=text, logits=ROUNDED, dtype="bfloat16"))


@pytest.mark.parametrize("text", [ANSWER, "nonsense"])
@pytest.mark.parametrize("logits", OTHER)
def test_in_16_bits_equal_fields_of_another_model_are_seen(logits: torch.Tensor, text: str) -> None:
    """Held to the template many models give the same fields, and two that give none agree in nothing."""
    with pytest.raises(CheckpointError, match=r"on b\.jpg the first logits correlate by") as found:
        compared(seen(text=text), seen(text=text, logits=logits, dtype="bfloat16"))
    assert "\n" not in str(found.value)


def test_in_16_bits_rows_that_nobody_can_read_are_counted() -> None:
    rounded = seen(text="nonsens", logits=ROUNDED, dtype="bfloat16")
    assert "equal (1 of them could be read from neither), first" in compared(seen(text="nonsense"), rounded)


def test_what_was_seen_comes_back_from_its_file(tmp_path: Path) -> None:
    seen("other\n", LOGITS.clone()).write(tmp_path / "seen.safetensors")
    again = Observation.read(tmp_path / "seen.safetensors")
    assert (again.dtype, again.texts) == ("float32", [ANSWER, "other\n"])
    assert all(torch.equal(one, LOGITS) for one in again.logits)
