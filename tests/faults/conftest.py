"""One small data set and model for all tests here, and children that start with everything imported."""

import shutil
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from phisight.core.settings import Recipe
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from tests.helpers.forked import start
from tests.helpers.small_run import save_small_model, small_recipe

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here is slow and starts processes."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.process)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "data"
    make(24, folder, seed=0, settings=preset("demo"))
    return folder


@pytest.fixture
def own_data(data: Path, tmp_path: Path) -> Path:
    """A copy of the data set that a test may damage."""
    return Path(shutil.copytree(data, tmp_path / "own"))


@pytest.fixture(scope="session")
def small_model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_small_model(data, folder)
    return folder


@pytest.fixture
def recipe(data: Path, small_model: Path, tmp_path: Path) -> Callable[..., Recipe]:
    return partial(small_recipe, data, small_model, tmp_path / "run")


@pytest.fixture(scope="session")
def child() -> Callable[..., BaseProcess]:
    """Starts a function of phisight in a process that was forked when its imports were done."""
    return start
