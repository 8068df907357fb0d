"""Training that starts from a name on the hub, a model or adapters: what is saved has the loss that was reported."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.hub_server import Hub, python_on, running_hub
from tests.helpers.start_losses import LARGE, METHODS, require_one_loss
from tests.helpers.trained_run import trained

TRAIN = """
import json, sys
from pathlib import Path
from phisight.export.subject import read_run, subject_of
from tests.helpers.start_losses import losses_of
products, folder, start, *methods = sys.argv[1:]
for method in methods:
    out = Path(folder) / method
    found = losses_of(method, start, Path(products), out)
    kept = {"revision": read_run(out / "run").model.revision, "weights": subject_of(out / "run").weights}
    print(json.dumps({"method": method, **found, **kept}), flush=True)
"""
STARTS = ("someone/base", "someone/adapters")


def methods() -> list[str]:
    """Those that this environment has."""
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        return [method for method in METHODS if method != "qlora"]
    return list(METHODS)


@pytest.fixture(scope="module")
def hub(base: Path, products: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """With a base, and adapters whose configuration names it by its name there."""
    best = (
        trained(products, tmp_path_factory.mktemp("first") / "lora", model=str(base), method="lora", **LARGE) / "best"
    )
    held = {path.name: path.read_bytes() for path in best.iterdir() if path.name != "origins.json"}
    settings = json.loads(held["adapter_config.json"])
    held["adapter_config.json"] = json.dumps({**settings, "base_model_name_or_path": "someone/base"}).encode()
    with running_hub(Hub()) as running:
        running.repos["someone/base"] = {path.name: path.read_bytes() for path in base.iterdir()}
        running.repos["someone/adapters"] = held
        yield running


@pytest.mark.parametrize("start", STARTS)
def test_reported_saved_and_exported_loss_are_one(start: str, hub: Hub, products: Path, tmp_path: Path) -> None:
    """Every method in one process, for a process is what takes long here."""
    done = python_on(hub, tmp_path / "home", "-c", TRAIN, str(products), str(tmp_path), start, *methods(), timeout=900)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [one["method"] for one in found] == methods(), done.stderr
    whole = start == "someone/base"
    for one in found:
        require_one_loss(one["method"], one)
        assert one["revision"] == hub.commit_of(start), "the run notes the commit"
        if one["method"] in ("lora", "dora", "qlora"):
            assert one["weights"] == ("someone/base" if whole else str(tmp_path / one["method"] / "run" / "base"))
