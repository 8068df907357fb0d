"""Bulk prediction on a cluster of two nodes: the same keys, fields and confidences, and a lost worker costs no row."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from phisight.core.errors import SettingsError
from phisight.extraction.extractor import Extractor
from phisight.extraction.ray_predict import RayEngine
from phisight.workflows.extract import EngineOptions, load_extractor, open_extractor, predict_images
from tests.helpers.answering_model import dying_extractor, save_answering_model, save_photos
from tests.helpers.ray_cluster import two_nodes

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'phisight[ray]'")

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, at start and end


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with two_nodes():
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_answering_model(tmp_path_factory.mktemp("models") / "m")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    save_photos(folder, 30)
    (folder / "0005.png").write_bytes(b"no image")
    return folder


def require_same(extractor: Extractor, model: Path, photos: Path) -> None:
    local = list(predict_images(load_extractor(model), [str(photos), str(photos / "gone.png")], batch_size=2))
    found = list(predict_images(extractor, [str(photos), str(photos / "gone.png")], batch_size=2))
    assert [name for name, _ in found] == [name for name, _ in local]
    for (_, mine), (_, theirs) in zip(found, local, strict=True):
        assert (mine.text, dict(mine), mine.error) == (theirs.text, dict(theirs), theirs.error)
        assert mine.interval == theirs.interval
        assert mine.confidence == pytest.approx(theirs.confidence, abs=1e-4)
    assert sum(not answer.ok for _, answer in local) == 2


def test_two_nodes_answer_alike(cluster: None, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model by a relative name, which a worker in another folder would not find."""
    assert len([node for node in ray.nodes() if node["Alive"]]) == 2
    monkeypatch.chdir(model.parent)
    require_same(open_extractor(model.name, EngineOptions("ray")), model, photos)


def test_more_workers_than_the_cluster_has_cores_are_refused(cluster: None, model: Path, photos: Path) -> None:
    extractor = open_extractor(str(model), EngineOptions("ray", ray_workers=3))
    with pytest.raises(SettingsError, match="--ray-workers 3 is more than the 2 CPUs of the cluster") as error:
        list(predict_images(extractor, [str(photos)], batch_size=2))
    assert "\n" not in str(error.value)


def test_a_lost_worker_costs_no_row(cluster: None, model: Path, photos: Path, tmp_path: Path) -> None:
    marker = tmp_path / "killed"
    load = partial(dying_extractor, str(model), str(marker))
    require_same(Extractor(str(model), RayEngine(load), load_extractor(model).reader), model, photos)
    assert marker.is_file()
