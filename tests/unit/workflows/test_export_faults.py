"""Exports that are killed, run out of room or meet a folder of another kind: whole, or nothing is there."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from phisight.core.errors import CheckpointError, PhisightError, SettingsError, StorageError
from phisight.export.subject import subject_of
from phisight.export.write import PARTIAL, write_whole
from phisight.workflows.export import export_model
from phisight.workflows.load import load_run
from tests.helpers.trained_run import trained


@pytest.fixture(scope="module")
def lora(base: Path, products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora") / "run"
    return trained(products, folder, model=str(base), method="lora", steps=2, evaluate_every=None)


def weights_of(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("there", [False, True], ids=["new folder", "empty folder"])
def test_a_killed_export_is_made_by_the_same_command(there: bool, lora: Path, tmp_path: Path) -> None:
    """Killed while run and export are asked: the weights are written, the folder must not look like a model."""
    out = tmp_path / "out"
    if there:
        out.mkdir()
    command = [sys.executable, "-m", "phisight", "export", str(lora), "--out", str(out), "--rows", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("Asking the run"):
                os.killpg(running.pid, signal.SIGKILL)
                break
    assert running.returncode == -signal.SIGKILL
    assert not (out / "config.json").exists()
    assert [path.name for path in tmp_path.rglob(f"*{PARTIAL}")], "it was killed too late to prove anything"
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob(f"*{PARTIAL}"))
    assert (out / "README.md").is_file()


WRITE = """
import resource, signal, sys
from pathlib import Path
from phisight.core.errors import PhisightError
from phisight.export.subject import subject_of
from phisight.workflows.export import export_model
from phisight.workflows.load import load_run
subject_of(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    export_model(sys.argv[1], sys.argv[2], rows=0)
except PhisightError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize("room", [10, 300, 1_000, 20_000, 100_000, 1_000_000])
def test_no_room_at_any_file_leaves_nothing(room: int, lora: Path, tmp_path: Path) -> None:
    """Each limit stops another writer: the library's JSON, the tokenizer's, the weights', phisight's own."""
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(lora), str(out), str(room)],
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("StorageError: "), done.stderr
    assert "nothing is left of it and the run stands" in last
    assert not list(tmp_path.iterdir())
    assert (lora / "best" / "adapter_model.safetensors").is_file()


def test_a_linked_folder_gets_the_export(lora: Path, tmp_path: Path) -> None:
    """A link to an empty folder, and one to a folder that is not there yet."""
    for name in ("there", "new"):
        link, target = tmp_path / f"{name}-link", tmp_path / name
        link.symlink_to(target)
        if name == "there":
            target.mkdir()
        export_model(lora, link, rows=0)
        assert link.is_symlink()
        assert (target / "config.json").is_file()


def test_an_empty_folder_stays_the_same_folder(lora: Path, tmp_path: Path) -> None:
    """It may be a mounted volume, which cannot be replaced, below a folder that nobody may write to."""
    out = tmp_path / "volume"
    out.mkdir()
    before = out.stat().st_ino
    export_model(lora, out, rows=0)
    assert out.stat().st_ino == before
    assert (out / "config.json").is_file()
    assert not (out / PARTIAL).exists()


def test_an_export_into_the_run_or_over_another_one_is_refused(lora: Path, tmp_path: Path) -> None:
    export_model(lora, tmp_path / "out", rows=0)
    kept = weights_of(tmp_path / "out")
    for folder in (lora, lora / "best", tmp_path / "out", lora / "config.yaml"):
        with pytest.raises(SettingsError, match="is there already and not empty"):
            export_model(lora, folder, rows=0)
    assert weights_of(tmp_path / "out") == kept
    inside = export_model(lora, lora / "exports" / "first", rows=0).folder
    assert weights_of(inside) == kept


def test_files_can_be_read_by_whoever_may_read_the_folder(lora: Path, tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        export_model(lora, tmp_path / "out", rows=0)
        export_model(lora, tmp_path / "adapters", rows=0, adapter=True)
    finally:
        os.umask(mask)
    files = [path for name in ("out", "adapters") for path in (tmp_path / name).iterdir()]
    assert files
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o644"}
    assert {oct(path.stat().st_mode & 0o777) for path in (lora / "best").iterdir()} == {"0o644"}


def test_a_base_in_16_bits_is_exported_as_it_was_scored(base: Path, lora: Path, products: Path, tmp_path: Path) -> None:
    """A float32 base that the recipe loads in bfloat16: rounded before adapters are merged, as in memory."""
    run = trained(
        products, tmp_path / "run", model=str(base), method="lora", dtype="bfloat16", steps=3, learning_rate=3e-2,
        evaluate_every=None,
    )  # fmt: skip
    done = export_model(run, tmp_path / "out", rows=2)
    assert "Compared with its run in bfloat16" in done.compared
    scored = load_run(run)[0].state_dict()
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert all(value.equal(scored[name]) for name, value in written.items())
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == "bfloat16"


def refused(match: str, folder: Path, out: Path) -> None:
    with pytest.raises(CheckpointError, match=match) as found:
        export_model(folder, out, rows=0)
    assert "\n" not in str(found.value)
    assert not out.exists()


def test_quantized_weights_are_named(base: Path, lora: Path, tmp_path: Path) -> None:
    """As `save_pretrained` writes a model in 4 bits: its configuration says so; and a type that no tensor here has."""
    export_model(lora, tmp_path / "model", rows=0)
    path = tmp_path / "model" / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "quantization_config": {"quant_method": "bitsandbytes"}}))
    refused(r"holds quantized weights \(bitsandbytes\)", tmp_path / "model", tmp_path / "out")
    path.write_text(json.dumps(values))
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    name = "model.layers.0.self_attn.qkv_proj.weight"
    save_file({**tensors, name: tensors[name].to(torch.float8_e4m3fn)}, tmp_path / "model" / "model.safetensors")
    refused(rf"{name} is stored as F8_E4M3, which is quantized", tmp_path / "model", tmp_path / "out")


def test_sampling_settings_of_the_base_do_not_stop_it(base: Path, products: Path, tmp_path: Path) -> None:
    """Published models set a temperature without sampling, which the library reads and refuses to write."""
    model = tmp_path / "model"
    shutil.copytree(base, model)
    path = model / "generation_config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "do_sample": False, "temperature": 0.7, "top_p": 0.9, "eos_token_id": 3}))
    run = trained(products, tmp_path / "run", model=str(model), method="full", steps=1, evaluate_every=None)
    export_model(run, tmp_path / "out", rows=0)
    for folder in (run / "best", tmp_path / "out"):
        written = json.loads((folder / "generation_config.json").read_text())
        assert "temperature" not in written
        assert set(written["eos_token_id"]) == {
            3,
            json.loads((folder / "config.json").read_text())["turn_end_token_id"],
        }
    lora = trained(products, tmp_path / "lora", model=str(model), method="lora", steps=1, evaluate_every=None)
    export_model(lora, tmp_path / "merged", rows=0)


def test_no_room_for_the_merged_base_of_a_training(lora: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        write_whole(subject_of(lora), tmp_path / "file" / "base", None)
    assert isinstance(StorageError("x"), PhisightError)
