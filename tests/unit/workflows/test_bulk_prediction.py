"""``phisight predict``: any source into any file, killed and continued, the same answers as one at a time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.errors import SettingsError, SourceError
from phisight.extraction.answer import Answer
from phisight.workflows.extract import EngineOptions, load_extractor, open_extractor, predict_images, predict_into
from tests.helpers.answering_model import TASK, save_answering_model, save_photos
from tests.helpers.one_thread import one_thread

COUNT = 14


@pytest.fixture(scope="module", autouse=True)
def unshared() -> Any:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_answering_model(tmp_path_factory.mktemp("models") / "m")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    save_photos(folder, COUNT)
    (folder / "0005.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def alone(model: Path, photos: Path) -> dict[str, Answer]:
    """The answer to each image, asked for one at a time."""
    extractor = load_extractor(model)
    found = {}
    for path in sorted(photos.iterdir()):
        ((name, answer),) = predict_images(extractor, [str(path)], batch_size=1, workers=1)
        found[Path(name).name] = answer
    return found


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def require_same(rows: list[dict[str, Any]], alone: dict[str, Answer]) -> None:
    """A row for each image, in order, with the answer of one at a time."""
    assert [Path(row["image"]).name for row in rows] == sorted(alone)
    for row in rows:
        answer = alone[Path(row["image"]).name]
        assert row["text"] == answer.text
        assert {name: row[name] for name in TASK.names} == {name: answer.get(name) for name in TASK.names}
        for name, value in answer.confidence.items():
            assert row[f"{name}_confidence"] == pytest.approx(value, abs=1e-4)
        assert (row["error"] is None) == answer.ok


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_answers_are_those_of_one_at_a_time(
    batch_size: int, model: Path, photos: Path, alone: dict[str, Answer], tmp_path: Path
) -> None:
    done = predict_into(load_extractor(model), [str(photos)], tmp_path / "out.jsonl", batch_size=batch_size, workers=3)
    assert (done.rows, done.errors, done.review) == (COUNT, 1, None)
    rows = rows_of(tmp_path / "out.jsonl")
    require_same(rows, alone)
    assert len({row["text"] for row in rows}) > 5
    good = rows[0]
    assert good["title_confidence"] <= 0.75
    assert (good["price_low"], good["price_high"]) == (good["price"] - 2.5, good["price"] + 2.5)


def command(*arguments: Any) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["predict", *map(str, arguments)])
    return done.exit_code, done.output + str(done.exception or "")


def test_the_command_with_a_review_file(model: Path, photos: Path, alone: dict[str, Answer], tmp_path: Path) -> None:
    out, review = tmp_path / "out.jsonl", tmp_path / "out.review.jsonl"
    code, text = command(model, photos, "--out", out, "--min-confidence", "0.3")
    assert code == 0, text
    assert "1 rows have an error" in text
    sure = [name for name, answer in alone.items() if answer.ok and (answer.overall_confidence or 0) >= 0.3]
    assert [row["image"] for row in rows_of(out)] == sorted(sure)
    assert [row["image"] for row in rows_of(review)] == sorted(set(alone) - set(sure))
    code, text = command(model, photos, "--out", out)
    assert code == 1
    assert "is there already" in text


def test_a_list_on_standard_input(model: Path, photos: Path, alone: dict[str, Answer], tmp_path: Path) -> None:
    names = "".join(f"{path}\n" for path in [*sorted(photos.iterdir()), photos / "0000.png"])
    out = tmp_path / "out.jsonl"
    done = CliRunner().invoke(app, ["predict", str(model), "-", "--out", str(out)], input=names)
    assert done.exit_code == 0, done.output
    rows = rows_of(out)
    assert rows[0]["text"] == rows[-1]["text"]  # the same file twice is two rows
    require_same(rows[:-1], alone)


def test_sources_without_an_image_leave_nothing_behind(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.csv").write_text("image,title\n")
    extractor = load_extractor(model)
    for name in ("empty", "empty.csv"):
        with pytest.raises(SourceError, match=r"holds no"):
            predict_into(extractor, [str(tmp_path / name)], tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "empty.csv"]
    with pytest.raises(SettingsError, match="would be taken for their table"):
        predict_into(extractor, [str(tmp_path / "empty")], tmp_path / "empty" / "out.parquet")


def test_a_table_with_columns_of_our_names(model: Path, photos: Path, alone: dict[str, Answer], tmp_path: Path) -> None:
    """The output of one prediction is a source of the next; only its image column is read."""
    extractor = load_extractor(model)
    predict_into(extractor, [str(photos)], tmp_path / "first.jsonl")
    done = predict_into(extractor, [str(tmp_path / "first.jsonl")], tmp_path / "second.jsonl", root=photos)
    assert done.rows == COUNT
    require_same(rows_of(tmp_path / "second.jsonl"), alone)


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_fewer_bits(quantization: Any, model: Path, photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("bitsandbytes", reason="pip install 'phisight[quantize]'")
    extractor = load_extractor(model, quantize=quantization)
    layers = {type(module).__name__ for module in extractor.engine.model.model.layers.modules()}  # type: ignore[attr-defined]
    assert layers & {"Linear8bitLt", "Linear4bit"}
    answers = [answer for _, answer in predict_images(extractor, [str(photos / "000[0-3].png")])]
    assert not [record for record in caplog.records if record.name.startswith("bitsandbytes")]
    assert len(answers) == 4
    assert all(answer.ok for answer in answers)


def test_another_type_of_the_weights_is_another_model_to_a_prediction(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    as_scored = open_extractor(str(model), EngineOptions())
    (found,) = {weight.dtype for weight in as_scored.engine.model.model.layers.parameters()}  # type: ignore[attr-defined]
    other: Any = "bfloat16" if found == torch.float32 else "float32"
    extractor = open_extractor(str(model), EngineOptions(dtype=other))
    (loaded,) = {weight.dtype for weight in extractor.engine.model.model.layers.parameters()}  # type: ignore[attr-defined]
    assert loaded == getattr(torch, other)
    out = tmp_path / "fields.jsonl"
    assert predict_into(extractor, [str(photos / "000[0-3].png")], out).rows == 4
    with pytest.raises(SettingsError, match="--overwrite"):
        predict_into(as_scored, [str(photos / "000[0-3].png")], out)


def test_options_that_do_not_go_together(model: Path) -> None:
    for options, words in (
        (EngineOptions("openai"), "add --url"),
        (EngineOptions("local", url="http://h"), "add --engine openai"),
        (EngineOptions("openai", "4bit", url="http://h"), "--quantize is the server's to do"),
        (EngineOptions("openai", dtype="float32", url="http://h"), "--dtype is the server's to do"),
        (EngineOptions("openai", url="localhost:1"), "is no address of a server"),
        (EngineOptions("local", ray_workers=2), "add --engine ray"),
    ):
        with pytest.raises(SettingsError, match=words):
            open_extractor(str(model), options)


def killed_after(lines: int, arguments: list[str], partial: Path) -> bool:
    """Start a prediction and kill it when its partial file has so many lines; whether it was killed in time."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [sys.executable, "-m", "phisight", "predict", *arguments]
    with subprocess.Popen(started, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < end:
            if partial.is_file() and partial.read_bytes().count(b"\n") >= lines:
                process.send_signal(signal.SIGKILL)
                return process.wait() == -signal.SIGKILL
            time.sleep(0.001)
    return False


def test_killed_again_and_again(model: Path, photos: Path, alone: dict[str, Answer], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    partial = tmp_path / "out.jsonl.partial.jsonl"
    arguments = [str(model), str(photos), "--out", str(out), "--batch-size", "2"]
    killed = [killed_after(lines, arguments, partial) for lines in (3, 9)]
    assert killed == [True, True]
    before = partial.read_bytes().count(b"\n")
    code, text = command(*arguments)
    assert code == 0, text
    assert before >= 9
    require_same(rows_of(out), alone)
    assert not partial.exists()
