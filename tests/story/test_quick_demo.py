"""``phisight demo --quick`` and the commands after it, on one run folder."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.helpers.command_line import Command


@pytest.fixture(scope="session")
def demo(phisight: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "run"
    done = phisight("demo", "--quick", "--out", out)
    assert "Image check" in done.stderr
    assert str(out / "report.html") in done.stdout.replace("\n", "")
    return out


def test_the_exported_model_answers_at_the_end(phisight: Command, demo: Path, tmp_path: Path) -> None:
    assert (demo / "export" / "task.json").is_file()
    out = tmp_path / "from-nothing"
    done = phisight("demo", "--quick", "--start", "nothing", "--out", out)
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer.keys() == {"image", "answer", "fields"}
    assert Path(answer["image"]).is_file()
    assert "Seconds: draw" in done.stdout
    assert (out / "export" / "model.safetensors").is_file()


def test_a_demo_replaces_no_other_run(phisight: Command, demo: Path, tmp_path: Path) -> None:
    """Neither one of another size nor a run on the user's own data; an export beside it stays, too."""
    before = {path: path.stat().st_mtime_ns for path in demo.rglob("*") if path.is_file()}
    larger = phisight("demo", "--out", demo, fails=True)
    assert "holds a run that this demo of 3,000 products would replace" in " ".join(larger.stderr.split())
    assert {path: path.stat().st_mtime_ns for path in demo.rglob("*") if path.is_file()} == before
    own = tmp_path / "own"
    (own / "export").mkdir(parents=True)
    (own / "export" / "notes.txt").write_text("kept")
    (own / "config.yaml").write_bytes((demo / "config.yaml").read_bytes())
    refused = phisight("demo", "--quick", "--out", own, fails=True)
    assert "of 200 products would replace; name another folder" in " ".join(refused.stderr.split())
    assert (own / "export" / "notes.txt").read_text() == "kept"


def test_scores_compare_real_with_shuffled_images(demo: Path) -> None:
    scores = json.loads((demo / "scores.json").read_text())
    wanted = {"parse_rate", "category_accuracy", "title_exact", "price_mae", "price_median_ape"}
    assert wanted <= scores.keys()
    assert wanted <= scores["shuffled"].keys()


def test_the_run_folder_is_complete(demo: Path) -> None:
    for name in ("config.yaml", "environment.json", "metrics.jsonl", "predictions.parquet", "report.html"):
        assert (demo / name).stat().st_size > 0, name
    steps = [json.loads(line) for line in (demo / "metrics.jsonl").read_text().splitlines()]
    losses = [step["train/loss"] for step in steps if "train/loss" in step]
    assert losses[-1] < losses[0]


def test_the_exported_weights_have_official_names(demo: Path) -> None:
    with safe_open(demo / "export" / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert "model.vision_embed_tokens.img_processor.vision_model.embeddings.class_embedding" in names
    assert "model.layers.0.self_attn.qkv_proj.weight" in names


def test_evaluate_again_and_predict(demo: Path, phisight: Command) -> None:
    phisight("evaluate", demo, "--split", "validation", "--rows", 4)
    images = sorted((demo / "data" / "images").rglob("*.*"))[:2]
    done = phisight("predict", demo, *images, "--json")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["image"] for answer in answers] == [str(image) for image in images]
    assert all(answer["answer"] for answer in answers)


def test_a_second_run_does_not_replace_the_first(demo: Path, phisight: Command) -> None:
    done = phisight("train", demo / "config.yaml", fails=True)
    assert "already holds a run" in done.stderr


def test_unknown_setting(demo: Path, phisight: Command) -> None:
    done = phisight("train", demo / "config.yaml", "--set", "train.learning_rte=1", fails=True)
    assert "did you mean 'train.learning_rate'" in done.stderr


def test_a_run_without_a_checkpoint(tmp_path: Path, phisight: Command) -> None:
    assert "is no run folder" in phisight("evaluate", tmp_path, fails=True).stderr
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    assert "has no checkpoint" in phisight("evaluate", tmp_path, fails=True).stderr


def test_a_missing_and_an_unreadable_image(demo: Path, tmp_path: Path, phisight: Command) -> None:
    assert "nowhere.jpg" in phisight("predict", demo, tmp_path / "nowhere.jpg", fails=True).stderr
    (tmp_path / "text.jpg").write_text("not an image")
    assert "text.jpg" in phisight("predict", demo, tmp_path / "text.jpg", fails=True).stderr


def test_a_missing_model_and_data_set(tmp_path: Path, phisight: Command) -> None:
    (tmp_path / "recipe.yaml").write_text(f"out: {tmp_path}/run\ndata: {{path: {tmp_path}/none}}\n")
    said = " ".join(phisight("train", tmp_path / "recipe.yaml", fails=True).stderr.split())
    assert "there is no folder" in said
    (tmp_path / "none").mkdir()
    said = " ".join(phisight("train", tmp_path / "recipe.yaml", fails=True).stderr.split())
    assert "is not a data set folder" in said


def test_debug_shows_the_traceback(tmp_path: Path, phisight: Command) -> None:
    with pytest.raises(AssertionError):
        phisight("--debug", "evaluate", tmp_path)
