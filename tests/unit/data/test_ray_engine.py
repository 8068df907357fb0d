"""The same build on a cluster of two nodes gives the same folder, to the byte."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from phisight.core.errors import SettingsError
from phisight.data.build.build_dataset import build
from tests.helpers.image_server import ImageServer
from tests.helpers.ray_cluster import two_nodes
from tests.helpers.url_list import OPTIONS, folder_bytes, write_list

pytestmark = [pytest.mark.process, pytest.mark.slow]

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'phisight[ray]'")


@pytest.fixture
def cluster() -> Iterator[None]:
    with two_nodes():
        yield


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own, at start and end
def test_two_nodes_build_the_same_folder(cluster: None, server: ImageServer, tmp_path: Path) -> None:
    assert len([node for node in ray.nodes() if node["Alive"]]) == 2
    kinds = ["ok", "404", "flaky", "html", "redirect", "bomb"]
    urls = [f"{server.url}/{kinds[n % 6] if n % 3 == 1 else 'ok'}/{n % 40}" for n in range(150)]
    table = write_list(tmp_path / "t.csv", urls)
    on_ray = build(str(table), tmp_path / "ray", replace(OPTIONS, engine="ray"))
    server.requests.clear()
    local = build(str(table), tmp_path / "local", OPTIONS)
    assert (on_ray.kept, on_ray.rejected) == (local.kept, local.rejected)
    assert folder_bytes(tmp_path / "ray") == folder_bytes(tmp_path / "local")


def test_unknown_engines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="neither local nor ray"):
        build("t.csv", tmp_path / "ds", replace(OPTIONS, engine="spark"))
