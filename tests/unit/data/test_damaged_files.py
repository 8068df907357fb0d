"""Every file a command reads, damaged in every way: one line that names it, or read; no traceback, hang or flood."""

import io
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phisight.core.errors import PhisightError
from phisight.core.recipe import load_recipe, read_config
from phisight.data.build.build_dataset import build
from phisight.data.build.plan.task_files import read_task
from phisight.data.dataset.export_formats import export
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.inspect import describe, page
from phisight.data.dataset.leakage import find_leaks
from phisight.data.sources.layouts.open import open_source
from phisight.export.origins import Origins
from phisight.model.configuration import check_model_config
from phisight.report.page import write_report
from phisight.sample.card import SampleCard
from phisight.track.jsonl import read_steps
from tests.helpers.damage import damaged_bytes, damaged_json, damaged_yaml
from tests.helpers.images import write_images
from tests.helpers.run_folder import make_run
from tests.helpers.url_list import OPTIONS, write_list


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """An exception after two minutes, wherever the test hangs."""

    def stop(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(240)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def read_all(read: Callable[[], Any], cases: Iterator[tuple[str, bytes]], path: Path) -> int:
    """Read a file in each of its damaged states; how many of them were refused."""
    refused = 0
    for name, data in cases:
        path.write_bytes(data)
        message = ""
        try:
            read()
        except PhisightError as error:
            refused += 1
            message = str(error)
        except Exception as error:
            raise AssertionError(f"{path.name}, {name}: {type(error).__name__}: {error}") from error
        assert "\n" not in message, f"{name}: {message}"
        assert len(message) < 1500, f"{name}: {message[:200]}"
    return refused


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    (folder / "shop").mkdir()
    names = [*write_images(folder / "shop", 6), "missing.jpg"]
    build(str(write_list(folder / "shop" / "t.csv", names)), folder / "ds", OPTIONS)
    return folder / "ds"


@pytest.fixture
def data_set(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "ds"))


def use(folder: Path, out: Path) -> None:
    """What the data commands do with a folder."""
    data = DatasetFolder.open(folder)
    page(data, describe(data), out / "page.html")
    find_leaks(data)
    shutil.rmtree(out / "csv", ignore_errors=True)
    export(data, out / "csv", "csv")


@pytest.mark.slow
def test_a_damaged_card(data_set: Path, tmp_path: Path) -> None:
    path = data_set / "dataset.json"
    data = path.read_bytes()
    cases = [*damaged_bytes(data), *damaged_json(data)]
    assert read_all(lambda: use(data_set, tmp_path), iter(cases), path) > 50


@pytest.mark.slow
def test_damaged_rejects(data_set: Path, tmp_path: Path) -> None:
    path = data_set / "rejects.jsonl"
    data = path.read_bytes()
    cases = [*damaged_bytes(data), *((name, line + b"\n") for name, line in damaged_json(data))]
    assert read_all(lambda: use(data_set, tmp_path), iter(cases), path) > 20


@pytest.mark.slow
def test_a_damaged_table(data_set: Path, tmp_path: Path) -> None:
    path = data_set / "metadata.parquet"
    whole = path.read_bytes()
    table = pq.read_table(path)
    cases = list(damaged_bytes(whole, flips=40))
    for name in table.column_names:
        for odd in (pa.nulls(table.num_rows), pa.array([1.5] * table.num_rows), pa.array([b"\xff"] * table.num_rows)):
            file = io.BytesIO()
            pq.write_table(table.set_column(table.column_names.index(name), name, odd), file)
            cases.append((f"{name} as {odd.type}", file.getvalue()))
        file = io.BytesIO()
        pq.write_table(table.drop_columns([name]), file)
        cases.append((f"without {name}", file.getvalue()))
    assert read_all(lambda: use(data_set, tmp_path), iter(cases), path) > 30


@pytest.mark.parametrize("name", ["dataset.json", "rejects.jsonl", "metadata.parquet"])
def test_a_build_over_a_damaged_folder_goes_through(built: Path, data_set: Path, name: str) -> None:
    whole = (data_set / name).read_bytes()
    for _, data in damaged_bytes(whole, flips=3):
        (data_set / name).write_bytes(data)
        build(str(built.parent / "shop" / "t.csv"), data_set, OPTIONS)
        assert (data_set / name).read_bytes() == whole


TASK_FILE = b"prompt: What?\nanswer: '{title}: {price}'\nfields:\n  title: text\n  price: {kind: number, decimals: 2}\n"
RECIPE = (
    b"seed: 1\nmodel: {name: tiny}\ntrain: {method: lora, learning_rate: 0.001}\nlora: {rank: 4, targets: [o_proj]}\n"
)


@pytest.mark.slow
@pytest.mark.parametrize(("content", "read"), [(TASK_FILE, read_task), (RECIPE, load_recipe), (RECIPE, read_config)])
def test_a_damaged_task_or_recipe(tmp_path: Path, content: bytes, read: Callable[[Path], Any]) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    read(path)
    cases = [*damaged_bytes(content), *damaged_yaml(content)]
    assert read_all(lambda: read(path), iter(cases), path) > 40


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), 12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["scores.json", "config.yaml", "environment.json", "dataset.json", "metrics.jsonl", "summary.json",
     "examples.jsonl", "predictions.parquet"],
)  # fmt: skip
def test_a_damaged_run_is_reported_or_named(whole_run: Path, tmp_path: Path, name: str) -> None:
    run = Path(shutil.copytree(whole_run, tmp_path / "run"))
    path = run / name
    data = path.read_bytes()
    cases = list(damaged_bytes(data, flips=6))
    if name.endswith(".json"):
        cases += list(damaged_json(data))[::7]
    elif name.endswith(".yaml"):
        cases += list(damaged_yaml(data))[::2]
    elif name.endswith(".jsonl"):
        first = data.split(b"\n")[0]
        cases += [(case, line + b"\n" + data) for case, line in list(damaged_json(first))[::5]]
    read_all(lambda: (read_steps(run / "metrics.jsonl"), write_report([run])), iter(cases), path)


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("sample.json", {"rows": 3, "designs": 2, "seed": 0, "settings": {"a": 1}, "price_rule": {}, "faults": {},
                         "best_price_median_ape": 0.1}, SampleCard.read),
        ("origins.json", {"format": "phisight-origins/1", "model": None, "data": None}, Origins.read),
        ("config.json", {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 99,
                         "vision_config": {"hidden_size": 32, "num_hidden_layers": 1}}, check_model_config),
    ],
)  # fmt: skip
def test_a_damaged_file_of_phisight(
    tmp_path: Path, name: str, content: dict[str, Any], read: Callable[[Path], Any]
) -> None:
    path = tmp_path / name
    data = json.dumps(content).encode()
    path.write_bytes(data)
    read(tmp_path)
    cases = [*damaged_bytes(data), *damaged_json(data)]
    assert read_all(lambda: read(tmp_path), iter(cases), path) > 20


@pytest.mark.parametrize(
    "change", [{"hidden_size": -1}, {"num_attention_heads": 0}, {"num_hidden_layers": 10**9}, {"vocab_size": "many"}]
)
def test_a_size_that_no_model_has_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(change))
    with pytest.raises(PhisightError, match=next(iter(change))):
        check_model_config(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 900}, {"vocab_size": 10**7}, {"hidden_size": 16_384}, {"intermediate_size": 10**6},
        {"vision_config": {"hidden_size": 32, "image_size": 16_384, "patch_size": 1}},
        {"vision_config": {"hidden_size": 1024, "num_hidden_layers": 1000, "intermediate_size": 4096}},
    ],
)  # fmt: skip
def test_a_model_larger_than_its_weights_is_refused_before_it_is_built(tmp_path: Path, change: dict[str, Any]) -> None:
    whole = {
        "hidden_size": 256, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 99,
        "intermediate_size": 512, "vision_config": {"hidden_size": 32, "num_hidden_layers": 1},
    }  # fmt: skip
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 4_000_000)
    (tmp_path / "config.json").write_text(json.dumps(whole))
    check_model_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(whole | change))
    with pytest.raises(PhisightError, match="the weights beside it hold 4000000 bytes"):
        check_model_config(tmp_path)


def consume(path: Path) -> None:
    for batch in open_source(str(path)).batches():
        batch.table.to_pylist()


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.json", "t.parquet", "t.tar"])
def test_a_damaged_source(tmp_path: Path, name: str) -> None:
    from tests.helpers.bombs import tar_of_large_members

    path = tmp_path / name
    rows = [{"id": str(at), "title": f"T{at}", "price": at + 0.5} for at in range(5)]
    if name == "t.csv":
        path.write_text("id,title,price\n" + "".join(f'{row["id"]},"{row["title"]}",{row["price"]}\n' for row in rows))
    elif name == "t.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name == "t.tar":
        tar_of_large_members(path, 2, 1000)
    else:
        path.write_text(json.dumps(rows) if name == "t.json" else "".join(json.dumps(row) + "\n" for row in rows))
    consume(path)
    cases = list(damaged_bytes(path.read_bytes(), flips=60))
    if name == "t.json":
        cases += damaged_json(path.read_bytes())
    read_all(lambda: consume(path), iter(cases), path)
