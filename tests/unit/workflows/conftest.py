"""A sample data set and runs on it, made once."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from phisight.data.dataset.folder import DatasetFolder
from phisight.export.subject import read_run
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.train.checkpoint.best_model import save_best
from phisight.workflows.train import starting_model
from tests.helpers.forked_export import forked
from tests.helpers.trained_run import trained

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs, reports and fresh processes."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.process)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def forked_exports() -> Iterator[None]:
    """An export's two questions are asked in forked processes; test_export_faults.py has started ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("phisight.export.compare.subprocess", SimpleNamespace(run=forked))
        yield


@pytest.fixture(scope="session")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 products, 8 of them for validation."""
    folder = tmp_path_factory.mktemp("products") / "data"
    make(60, folder, seed=0, settings=preset("demo"), workers=1, overwrite=True)
    return folder


@pytest.fixture(scope="session")
def tiny_run(products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model after four steps, with answers on four rows."""
    return trained(products, tmp_path_factory.mktemp("runs") / "tiny", answer_rows=4)


@pytest.fixture(scope="session")
def base(tiny_run: Path, products: Path) -> Path:
    """The model that ``tiny_run`` started from, as a model folder."""
    folder = tiny_run.parent / "base"
    data = DatasetFolder.open(products)
    save_best(*starting_model(read_run(tiny_run), data.task, data.rows("train")), folder, whole=True)
    return folder
