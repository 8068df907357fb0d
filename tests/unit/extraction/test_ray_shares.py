"""How many models a cluster gets: never more than can run at once, for Ray would wait for them for ever."""

import pytest

from phisight.core.errors import EngineError, SettingsError
from phisight.extraction.ray_predict import shares

CPUS = [[1], [1, 1], [2, 2], [3, 3], [1, 7], [0, 4], [8], [5, 3, 2]]


@pytest.mark.parametrize("cpus", CPUS)
def test_every_number_that_is_taken_fits(cpus: list[int]) -> None:
    nodes = [{"CPU": float(count), "memory": 1e9} for count in cpus]
    for workers in [None, *range(1, sum(cpus) + 1)]:
        count, each = shares(nodes, workers)
        assert count == (workers or sum(one > 0 for one in cpus))
        assert sum(one // int(each["num_cpus"]) for one in cpus) >= count
        larger = int(each["num_cpus"]) + 1
        assert sum(one // larger for one in cpus) < count, "no core is left idle that a worker could have"
    for workers in (sum(cpus) + 1, 10 * sum(cpus)):
        with pytest.raises(SettingsError, match=rf"--ray-workers {workers} is more than the {sum(cpus)} CPUs") as error:
            shares(nodes, workers)
        assert "\n" not in str(error.value)


def test_a_cluster_with_cards_has_a_model_on_each() -> None:
    nodes: list[dict[str, float]] = [{"CPU": 16, "GPU": 2}, {"CPU": 4}, {"CPU": 16, "GPU": 1}]
    assert shares(nodes, None) == (3, {"num_gpus": 1})
    assert shares(nodes, 2) == (2, {"num_gpus": 1})
    with pytest.raises(SettingsError, match="--ray-workers 4 is more than the 3 GPUs"):
        shares(nodes, 4)


def test_a_cluster_that_computes_nothing() -> None:
    with pytest.raises(EngineError, match="neither a GPU nor a CPU"):
        shares([{"CPU": 0.0, "memory": 1e9}], None)
