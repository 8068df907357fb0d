"""A Ray cluster of two nodes on this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def two_nodes() -> Iterator[None]:
    """A head and a second node, one core each, connected; their workers import what the tests import."""
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        path = f"{os.getcwd()}/src:{os.getcwd()}"  # noqa: PTH109
        patch.setenv("PYTHONPATH", f"{path}:{os.environ.get('PYTHONPATH', '')}")
        small: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100_000_000}
        cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
        cluster.add_node(**small)
        ray.init(address=cluster.address, log_to_driver=False)
        try:
            yield
        finally:
            ray.shutdown()
            cluster.shutdown()  # type: ignore[no-untyped-call]
