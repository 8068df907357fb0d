"""Hub names that are half or wholly in the cache while the hub is out of reach: it is asked once, without retries."""

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from phisight.data.dataset.folder import DatasetFolder
from phisight.export.model_folder import cached_files
from tests.helpers.hub_server import Hub, phisight_on, python_on, running_hub

COMMIT = "a" * 40
CONFIG = {"model_type": "phi3_v", "hidden_size": 64}
ADAPTERS = {"peft_type": "LORA", "base_model_name_or_path": "some/base"}
CACHED = {"config.json": CONFIG, "adapter_config.json": ADAPTERS}


def cache(home: Path, name: str, files: dict[str, bytes]) -> None:
    """A hub name in the cache as a download leaves it."""
    repo = home / "hub" / f"models--{name.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    for file, content in files.items():
        path = repo / "snapshots" / COMMIT / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@contextmanager
def lost(kind: str) -> Iterator[tuple[Hub, list[str]]]:
    """A hub whose port is closed, or takes connections that nobody answers; and what it is asked of models.

    The library asks for a list of its own now and then, which no model waits for.
    """
    found: list[str] = []
    ended, held = threading.Event(), []
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        hub = Hub()
        hub.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        if kind != "silent":
            yield hub, found
            return
        listening.listen()
        listening.settimeout(0.2)

        def count() -> None:
            while not ended.is_set():
                try:
                    held.append(listening.accept()[0])
                    held[-1].settimeout(5)
                    line = held[-1].recv(4096).decode(errors="replace").partition("\r\n")[0]
                    found.extend([line] if "/some" in line else [])
                except TimeoutError:
                    continue

        counting = threading.Thread(target=count, daemon=True)
        counting.start()
        try:
            yield hub, found
        finally:
            ended.set()
            counting.join(5)
            for one in held:
                one.close()


def image_of(products: Path) -> str:
    data = DatasetFolder.open(products)
    return str(data.image_path(data.rows("test")[0]))


CASES = [(hub, cached, "predict") for hub in ("silent", "refusing", "offline") for cached in CACHED]
CASES += [("silent", "config.json", command) for command in ("export", "evaluate", "serve", "train")]


@pytest.mark.parametrize(("kind", "cached", "command"), CASES)
def test_a_configuration_alone_is_no_model(
    kind: str, cached: str, command: str, products: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe.yaml").write_text(
        f"out: {tmp_path}/run\nmodel: {{name: some/one}}\ndata: {{path: {products}}}\n"
    )
    words = {
        "train": [str(tmp_path / "recipe.yaml")],
        "evaluate": ["some/one", "--data", str(products), "--out", str(tmp_path / "out")],
        "predict": ["some/one", image_of(products)],
        "export": ["some/one", "--out", str(tmp_path / "out")],
        "serve": ["some/one", "--port", "0"],
    }[command]
    cache(tmp_path / "home", "some/one", {cached: json.dumps(CACHED[cached]).encode()})
    with lost(kind) as (hub, asked):
        if kind == "offline":
            code = "import os, sys; os.environ['HF_HUB_OFFLINE'] = '1'; from phisight.cli import main; main()"
            done = python_on(hub, tmp_path / "home", "-c", code, command, *words)
        else:
            done = phisight_on(hub, tmp_path / "home", command, *words)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 1
    assert len(errors) == 1, done.stderr
    assert "'some/one'" in errors[0]
    assert errors[0].rstrip().endswith("name a folder with config.json, or a hub name that can be reached")
    assert "Traceback" not in done.stderr
    assert len(asked) <= 1, f"asked once: {asked}"


def test_a_whole_model_in_the_cache_answers_without_the_hub(base: Path, products: Path, tmp_path: Path) -> None:
    """Loaded by its name while the hub was there; the silent one is asked once, for at most its few seconds."""
    home, words = tmp_path / "home", ("predict", "someone/base", image_of(products), "--data", str(products))
    with running_hub(Hub()) as hub:
        hub.repos["someone/base"] = {path.name: path.read_bytes() for path in base.iterdir()}
        first = phisight_on(hub, home, *words)
    for kind in ("silent", "refusing"):
        with lost(kind) as (gone, asked):
            again = phisight_on(gone, home, *words)
        assert (again.returncode, answers(again)) == (first.returncode, answers(first)), again.stderr
        assert len(asked) <= 1, f"asked once: {asked}"


def answers(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What was printed, without the progress of a download."""
    return [line for line in (done.stdout + done.stderr).splitlines() if "form of the task" in line or ":" in line][-1:]


@pytest.mark.parametrize("missing", [None, "model-00002-of-00002.safetensors", "tokenizer_config.json", "refs/main"])
def test_what_counts_as_cached(missing: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = json.dumps({"weight_map": {"a": shards[0], "b": shards[1]}}).encode()
    files: dict[str, Any] = dict.fromkeys(("tokenizer_config.json", "preprocessor_config.json", *shards), b"x")
    cache(tmp_path, "some/one", {"config.json": b"{}", "model.safetensors.index.json": index, **files})
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    if missing:
        repo = tmp_path / "hub" / "models--some--one"
        (repo / missing if "/" in missing else repo / "snapshots" / COMMIT / missing).unlink()
    assert bool(cached_files("some/one")) == (missing is None)
    assert bool(cached_files("some/one", COMMIT)) == (missing in (None, "refs/main"))
    shutil.rmtree(tmp_path / "hub")
    cache(tmp_path, "some/one", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"})
    assert cached_files("some/one") == ["adapter_config.json", "adapter_model.safetensors"]
    assert cached_files("a/b/c") == []
