"""Generated tables come in with exactly the values they were made of, or end in the one line that was foreseen."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from phisight.core.errors import PhisightError
from phisight.core.task import Task
from phisight.data.build.build_dataset import build
from phisight.data.build.plan.config import BuildOptions
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.sources.delimited.encoding import DEFAULT
from tests.helpers.images import write_images
from tests.helpers.odd_tables import IMAGES, OddTable, odd_tables, record_tables

DRAWN, ALL = 60, 1200


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images that the tables name."""
    folder = tmp_path_factory.mktemp("shop")
    write_images(folder, IMAGES)
    return folder


def problem_of(table: OddTable, shop: Path) -> str:
    """What is wrong with a build of the table; empty when all is as it must be."""
    path, out = shop / table.file, shop.with_name(f"{shop.name}-ds")
    path.write_bytes(table.data)
    shutil.rmtree(out, ignore_errors=True)
    title, price = table.fields["title"], table.fields["price"]
    task = Task.model_validate({"answer": f"{{{title}}} = {{{price}}}", "fields": {title: "text", price: "number"}})
    options = BuildOptions(
        image=table.fields["photo"], key=table.fields["sku"], task=task, encoding=table.encoding or DEFAULT
    )
    try:
        result = build(str(path), out, options)
    except PhisightError as error:
        found = str(error)
        return "" if table.error and re.search(table.error, found) and "\n" not in found else f"error: {found}"
    finally:
        path.unlink()
    if table.error:
        return f"no error, {result.kept} rows kept"
    rows = DatasetFolder.open(out).rows()
    kept = {row[table.fields["sku"]]: (" ".join(row[title].split()), row[price]) for row in rows}
    expected = {key: (" ".join(text.split()), value) for key, (text, value) in table.kept.items()}
    if kept != expected:
        return f"kept {kept} instead of {expected}"
    counts = (result.read, result.kept, result.rejected.total())
    due = (len(expected) + table.rejected, len(expected), table.rejected)
    return "" if counts == due else f"read, kept, rejected: {counts} instead of {due}"


def assert_all_as_made(tables: list[OddTable], shop: Path) -> None:
    problems = {table.name: problem for table in tables if (problem := problem_of(table, shop))}
    shown = "\n".join(f"{name}: {problem}" for name, problem in list(problems.items())[:10])
    assert not problems, f"{len(problems)} of {len(tables)} tables:\n{shown}"


@pytest.mark.slow
def test_some_tables(shop: Path) -> None:
    assert_all_as_made(odd_tables(DRAWN), shop)


@pytest.mark.slow
def test_records(shop: Path) -> None:
    assert_all_as_made(list(record_tables()), shop)


@pytest.mark.slow
def test_all_tables(shop: Path) -> None:
    assert_all_as_made(odd_tables(ALL), shop)
