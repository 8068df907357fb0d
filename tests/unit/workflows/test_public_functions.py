"""What ``import phisight`` promises: its names, their signatures, and that they do what the commands do."""

import asyncio
import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import phisight
from phisight.core.errors import SettingsError, SourceError
from phisight.data.dataset.folder import DatasetFolder

SIGNATURES = {
    "Answer": "(fields: 'Mapping[str, Any] | None' = None, *, text: 'str' = '', confidence: 'Mapping[str, "
    "float] | None' = None, interval: 'Mapping[str, tuple[float, float]] | None' = None, "
    "unfamiliar: 'float | None' = None, error: 'str | None' = None, task: 'Task | None' = None) -> 'None'",
    "Extractor.extract": "(self, *images: 'AnyImage') -> 'Answer'",
    "Extractor.extract_many": "(self, images: 'Iterable[AnyImage | Sequence[AnyImage]]', *, batch_size: 'int' = 16, "
    "workers: 'int' = 2) -> 'Iterator[Answer]'",
    "build_dataset": "(source: 'str | Path', out: 'str | Path', **options: 'Any') -> 'Path'",
    "evaluate_model": "(name: 'str | Path', *, data: 'str | Path | None' = None, out: 'str | Path | None' = None, "
    "base_model_rows: 'int' = 100, **settings: 'Any') -> 'dict[str, Any]'",
    "export_model": "(run: 'str | Path', out: 'str | Path', *, adapter: 'bool' = False, dtype: 'ExportDtype | None' = "
    "None, remote_code: 'bool' = False, push: 'str | None' = None, private: 'bool' = True, rows: 'int' = 10, announce: "
    "'Announce' = <function <lambda>>) -> 'Exported'",
    "load": "(name: 'str | Path', *, data: 'str | Path | None' = None, dtype: 'str' = 'auto', constrained: 'bool | "
    "None' = None) -> 'Extractor'",
    "train_model": "(recipe: 'str | Path | Mapping[str, Any] | Recipe', overrides: 'Sequence[str]' = (), *, overwrite: "
    "'bool' = False, resume: 'bool' = False) -> 'Path'",
}
"""Parameters may be added with a default; whoever changes or removes one breaks programs of other people."""
NAMES = {name.split(".")[0] for name in SIGNATURES} | {"PhisightError", "__version__"}


def named(name: str) -> object:
    value: object = phisight
    for part in name.split("."):
        value = getattr(value, part)
    return value


def test_public_names_are_frozen() -> None:
    assert set(phisight.__all__) == NAMES
    assert phisight.__all__ == sorted(phisight.__all__)
    assert set(dir(phisight)) >= NAMES


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_frozen(name: str) -> None:
    value = named(name)
    assert callable(value)
    shown = str(inspect.signature(value))
    assert shown.split(" at 0x")[0].split("<function")[0] == SIGNATURES[name].split("<function")[0]
    assert inspect.getdoc(value)


def test_no_public_name_is_a_sub_package() -> None:
    """An import of the package would replace the function of that name."""
    assert not NAMES & {module.name for module in pkgutil.iter_modules(phisight.__path__)}


def test_every_name_survives_every_import() -> None:
    script = """
import importlib, pkgutil, phisight
before = {name: getattr(phisight, name) for name in phisight.__all__}
for module in pkgutil.walk_packages(phisight.__path__, "phisight."):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:  # of an extra that is not installed
        assert not error.name.startswith("phisight")
assert all(getattr(phisight, name) is value for name, value in before.items())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(phisight, "no_such_name")


def test_the_chain_from_python(products: Path, tmp_path: Path) -> None:
    """A table to typed fields, each step by its function."""
    source = DatasetFolder.open(products)
    rows = [{"photo": str(source.image_path(row)), "name": row["title"]} for row in source.rows()[:20]]
    table = tmp_path / "table.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)) + "\n")
    data = phisight.build_dataset(table, tmp_path / "data", image="photo", image_root=products)
    train = {"method": "full", "steps": 2, "batch_size": 2, "log_every": 1}
    run = phisight.train_model(
        {"out": str(tmp_path / "run"), "data": {"path": str(data)}, "train": train},
        ["train.steps=3", "evaluate.max_new_tokens=8"],
    )
    split = next(name for name in ("test", "validation") if name in DatasetFolder.open(data).split_names)
    scores = phisight.evaluate_model(run, split=split, base_model_rows=0)
    assert scores["rows"] > 0
    done = phisight.export_model(run, tmp_path / "export", rows=1)
    assert "greedy answers of 1 rows equal" in done.compared
    by_run, by_export = phisight.load(run), phisight.load(done.folder)
    images = [row["photo"] for row in rows[:3]]
    for mine, theirs in zip(by_run.extract_many(images), by_export.extract_many(images), strict=True):
        assert (mine.text, mine.confidence, dict(mine)) == (theirs.text, theirs.confidence, dict(theirs))
    missing = next(by_export.extract_many([tmp_path / "gone.jpg"]))
    assert missing.error is not None
    assert "gone.jpg" in missing.error
    other = phisight.evaluate_model(done.folder, data=data, out=tmp_path / "scores", split=split)
    assert other["rows"] == scores["rows"]


def test_a_data_set_is_built_where_a_loop_is_running(products: Path, tmp_path: Path) -> None:
    """As in a notebook; an error comes through as it is."""
    source = DatasetFolder.open(products)
    rows = [{"photo": str(source.image_path(row)), "name": row["title"]} for row in source.rows()[:20]]
    table = tmp_path / "table.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)) + "\n")

    async def cell(path: Path) -> Path:
        return phisight.build_dataset(path, tmp_path / "data", image="photo", image_root=products)

    built = DatasetFolder.open(asyncio.run(cell(table)))
    assert len(built) + built.card.rejected == len(rows)
    assert len(built) > 0
    with pytest.raises(SourceError):
        asyncio.run(cell(tmp_path / "gone.jsonl"))


def test_what_the_functions_refuse(tiny_run: Path, products: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="knows no option colour; it knows image, further_images"):
        phisight.build_dataset(products, tmp_path / "data", colour="red")
    with pytest.raises(SettingsError, match="keeps its own results"):
        phisight.evaluate_model(tiny_run, out=tmp_path / "out")
    with pytest.raises(SettingsError, match="name a data set folder in data"):
        phisight.evaluate_model(tmp_path / "nothing/at-all")
    with pytest.raises(SettingsError, match="rowz"):
        phisight.evaluate_model(tiny_run, rowz=3)
    with pytest.raises(SettingsError):
        phisight.train_model({"out": str(tmp_path / "run"), "train": {"stepz": 3}})


@pytest.mark.parametrize("dtype", ["float16", "fp16", "int8", "", None, 16, torch.bfloat16], ids=str)
def test_a_type_that_no_prediction_has_is_named(dtype: Any) -> None:
    with pytest.raises(SettingsError, match=r"^dtype .* is none of auto, float32, bfloat16$"):
        phisight.load("tiny-base", dtype=dtype)


@pytest.mark.parametrize("dtype", ["int8", "fp16", "auto", 16], ids=str)
def test_a_type_that_no_export_has_is_named(dtype: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^dtype .* is none of float32, bfloat16, float16$"):
        phisight.export_model(tmp_path / "run", tmp_path / "out", dtype=dtype)
