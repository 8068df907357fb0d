"""Models on the hub: pushed, loaded by name with all that lies beside the weights, pinned, and out of reach."""

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.errors import PhisightError
from phisight.data.dataset.folder import DatasetFolder
from phisight.workflows.extract import load_extractor
from tests.helpers.hub_server import Hub, phisight_on, python_on, running_hub
from tests.helpers.trained_run import trained

SETTINGS: dict[str, Any] = {"steps": 3, "learning_rate": 3e-2, "evaluate_every": 3, "method": "lora", "numbers": "head"}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with running_hub(Hub()) as running:
        yield running


@pytest.fixture(scope="module")
def published(hub: Hub, base: Path) -> str:
    """The base model on the hub."""
    hub.repos["someone/base"] = {path.name: path.read_bytes() for path in base.iterdir()}
    return "someone/base"


@pytest.fixture(scope="module")
def lora(base: Path, products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(products, tmp_path_factory.mktemp("lora") / "run", model=str(base), **SETTINGS)


ASK = """
import json, sys, phisight
for name in sys.argv[2:]:
    answer = phisight.load(name).extract(sys.argv[1])
    print(json.dumps([answer.text, dict(answer), answer.confidence]))
"""


def image_of(products: Path) -> Path:
    data = DatasetFolder.open(products)
    return data.image_path(data.rows("test")[0])


def answer_of(run: Path, image: Path) -> list[Any]:
    answer = load_extractor(run).extract(image)
    return [answer.text, dict(answer), answer.confidence]


def asked_by_name(hub: Hub, home: Path, image: Path, *names: str) -> list[list[Any]]:
    """What models answer, loaded by their names in a fresh process."""
    done = python_on(hub, home, "-c", ASK, str(image), *names)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()[-len(names) :]]


def test_an_export_is_pushed_and_loaded_by_its_name(hub: Hub, lora: Path, products: Path, tmp_path: Path) -> None:
    """Number head and task file come along; weights of an earlier push in other files are not loaded in their place."""
    hub.repos["someone/products"] = {"model-00001-of-00001.safetensors": b"old", "model.safetensors.index.json": b"{}"}
    options = ("--out", str(tmp_path / "out"), "--rows", "1", "--push", "someone/products")
    done = phisight_on(hub, tmp_path / "home", "export", str(lora), *options)
    assert done.returncode == 0, done.stderr
    assert "hf_secret" not in done.stdout + done.stderr
    held = hub.repos["someone/products"]
    wanted = {"config.json", "model.safetensors", "number_head.safetensors", "task.json", "README.md"}
    assert wanted <= held.keys()
    assert not {"model-00001-of-00001.safetensors", "model.safetensors.index.json", "origins.json"} & held.keys()
    for name in ("model.safetensors", "README.md", "task.json"):
        assert held[name] == (tmp_path / "out" / name).read_bytes()
    image = image_of(products)
    assert asked_by_name(hub, tmp_path / "home", image, "someone/products") == [answer_of(lora, image)]


def test_adapters_are_pushed_and_loaded_by_their_name(hub: Hub, published: str, products: Path, tmp_path: Path) -> None:
    """Trained on a hub name; the run stays on its commit when the branch moves on, merged export included."""
    recipe = {
        "out": str(tmp_path / "run"),
        "model": {"name": published, "attention": "eager"},
        "data": {"path": str(products), "feature_cache_gb": 0},
        "train": {"batch_size": 4, "log_every": 1, **SETTINGS},
        "evaluate": {"max_new_tokens": 24},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    home = tmp_path / "home"
    done = phisight_on(hub, home, "train", str(tmp_path / "recipe.yaml"))
    assert done.returncode == 0, done.stderr
    image = image_of(products)
    (expected,) = asked_by_name(hub, home, image, str(tmp_path / "run"))

    card = hub.repos[published].pop("config.json")
    weights = hub.repos[published].pop("model.safetensors")
    hub.repos[published] |= {"config.json": card.replace(b'"rms_norm_eps": 1e-05', b'"rms_norm_eps": 0.5')}
    hub.repos[published] |= {"model.safetensors": weights}
    shutil.rmtree(home)  # nothing cached
    assert asked_by_name(hub, home, image, str(tmp_path / "run")) == [expected]

    options = ("--out", str(tmp_path / "merged"), "--rows", "1")
    done = phisight_on(hub, home, "export", str(tmp_path / "run"), *options)
    assert done.returncode == 0, done.stderr
    options = ("--out", str(tmp_path / "adapters"), "--push", "someone/adapters")
    done = phisight_on(hub, home, "export", str(tmp_path / "run"), "--adapter", *options)
    assert done.returncode == 0, done.stderr
    settings = json.loads(hub.repos["someone/adapters"]["adapter_config.json"])
    assert settings["base_model_name_or_path"] == published
    assert hub.repos["someone/adapters"]["README.md"] == (tmp_path / "adapters" / "README.md").read_bytes()
    shutil.rmtree(home)
    names = (str(tmp_path / "merged"), "someone/adapters")
    assert asked_by_name(hub, home, image, *names) == [expected, expected]


@pytest.mark.parametrize("name", ["no-owner", "a/b/c", "some one/model", "someone/--x"])
def test_a_name_that_is_none_is_refused_before_the_work(name: str, lora: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(lora), "--out", str(tmp_path / "out"), "--push", name])
    assert done.exit_code == 1
    assert isinstance(done.exception, PhisightError)
    assert "write OWNER/NAME" in str(done.exception)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def lost_hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    """A hub whose machine is there, or whose port takes connections that nobody answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if request.param == "never answers":
            listening.listen()
        lost = Hub()
        lost.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        yield lost


LOST = [("refuses", command) for command in ("train", "evaluate", "predict", "export", "plan")]
LOST += [("never answers", command) for command in ("train", "predict")]


@pytest.mark.parametrize(("lost_hub", "command"), LOST, indirect=["lost_hub"])
def test_a_name_that_cannot_be_reached_is_one_line(command: str, lost_hub: Hub, products: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        f"out: {tmp_path}/run\nmodel: {{name: some/one}}\ndata: {{path: {products}}}\n"
    )
    words = {
        "train": [str(tmp_path / "recipe.yaml")],
        "plan": [str(tmp_path / "recipe.yaml")],
        "evaluate": ["some/one", "--data", str(products), "--out", str(tmp_path / "out")],
        "predict": ["some/one", str(image_of(products))],
        "export": ["some/one", "--out", str(tmp_path / "out")],
    }[command]
    done = phisight_on(lost_hub, tmp_path / "home", command, *words)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "'some/one'" in errors[0]
    assert errors[0].rstrip().endswith("name a folder with config.json, or a hub name that can be reached")


@pytest.mark.parametrize("lost_hub", ["refuses", "never answers"], indirect=True)
def test_a_push_that_cannot_be_made_leaves_the_export(lost_hub: Hub, lora: Path, tmp_path: Path) -> None:
    words = ("--out", str(tmp_path / "out"), "--adapter", "--push", "someone/lost")
    done = phisight_on(lost_hub, tmp_path / "home", "export", str(lora), *words)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "could not be pushed" in done.stderr
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
