"""The same build on a cluster of two nodes gives the same folder, to the byte."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phisight.core.errors import SettingsError
from phisight.data.build.build_dataset import build
from tests.helpers.image_server import ImageServer
from tests.helpers.url_list import OPTIONS, folder_bytes, write_list

pytestmark = [pytest.mark.process, pytest.mark.slow]

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'phisight[ray]'")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A head and a second node on this machine, one core each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    path = f"{os.getcwd()}/src:{os.getcwd()}"  # noqa: PTH109
    monkeypatch.setenv("PYTHONPATH", f"{path}:{os.environ.get('PYTHONPATH', '')}")
    small: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    cluster.add_node(**small)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


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
