"""``phisight evaluate``: before and after, models that are no run, constrained answers, and data that does not fit."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.errors import EvaluationError, RunError, SettingsError, TaskError
from phisight.core.recipe import changed, recipe_from
from phisight.core.settings import Recipe
from phisight.export.subject import read_run
from phisight.report import report_json, write_report
from phisight.workflows.evaluate import evaluate_model, evaluate_run
from tests.helpers.trained_run import trained

FIGURES = ("parse_rate", "title_edit_similarity", "category_accuracy", "price_mae_penalized")


def answers(folder: Path, kind: str) -> dict[int, str]:
    lines = [json.loads(line) for line in (folder / f"predictions.{kind}.jsonl").read_text().splitlines()]
    return {line["row"]: line["answer"] for line in lines[1:]}


def bare(base: Path, products: Path, out: Path, **settings: Any) -> Recipe:
    """The recipe of an evaluation of a model that is no run."""
    wanted = {"max_new_tokens": 24, "batch_size": 8, "split": "validation", **settings}
    model = {"name": str(base), "attention": "eager"}
    return recipe_from({"out": str(out), "model": model, "data": {"path": str(products)}, "evaluate": wanted})


@pytest.fixture(scope="module")
def of_base(base: Path, products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "results"
    evaluate_model(bare(base, products, out))
    return out


@pytest.fixture(scope="module")
def with_adapters(base: Path, products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("lora") / "run"
    trained(products, run, model=str(base), method="lora", steps=4, learning_rate=3e-2)
    return run


def test_before_is_the_checkpoint_without_adapters(with_adapters: Path, of_base: Path) -> None:
    scores = evaluate_run(with_adapters)
    assert (with_adapters / "best" / "adapter_config.json").is_file()
    assert answers(with_adapters, "base_model") == answers(of_base, "real")
    assert answers(with_adapters, "real") != answers(with_adapters, "base_model")
    alone = json.loads((of_base / "scores.json").read_text())
    assert {name: scores["base_model"][name] for name in FIGURES} == {name: alone[name] for name in FIGURES}
    assert "without the adapters" in scores["base_model"]["about"]


def test_before_is_the_untrained_model_of_the_same_seed(tiny_run: Path, of_base: Path) -> None:
    settings = changed(read_run(tiny_run).evaluate, rows=5)
    scores = evaluate_run(tiny_run, settings=settings, base_model_rows=3)
    before = answers(tiny_run / "evaluations" / "validation-5-rows", "base_model")
    assert len(before) == scores["base_model"]["rows"] == scores["base_model"]["tuned"]["rows"] == 3
    assert set(before.values()) <= set(answers(of_base, "real").values())
    against = scores["base_model"]["tuned_against"]["category"]
    assert against["right"] == scores["base_model"]["category_accuracy"]
    assert against["left"] == scores["base_model"]["tuned"]["category_accuracy"]
    told = "fine-tuning, against the untrained tiny model of seed 0 on 3 rows"
    assert any(told in line for line in lines(scores))
    assert "base_model" not in evaluate_run(tiny_run, settings=settings, base_model_rows=0)


def test_a_sample_does_not_replace_the_results_of_the_split(tiny_run: Path, products: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    settings = read_run(run).evaluate
    evaluate_run(run, base_model_rows=0)
    own = {path.name: path.read_bytes() for path in run.glob("*.parquet")} | {"": (run / "scores.json").read_bytes()}
    other = shutil.copytree(products, tmp_path / "other")
    evaluate_run(run, settings=changed(settings, split="test", rows=2), base_model_rows=0)
    evaluate_run(run, data=other, settings=changed(settings, rows=2), base_model_rows=0)
    assert {path.name for path in (run / "evaluations").iterdir()} >= {"test-2-rows", "other-validation-2-rows"}
    now = {path.name: path.read_bytes() for path in run.glob("*.parquet")} | {"": (run / "scores.json").read_bytes()}
    assert now == own
    facts = json.loads((run / "evaluations" / "test-2-rows" / "scores.json").read_text())["evaluation"]
    assert (facts["split"], facts["limit"]) == ("test", 2)
    assert "2 rows" in write_report([run / "evaluations" / "test-2-rows"]).read_text()


def test_other_images_may_be_shown_for_a_sample(tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    settings = changed(read_run(run).evaluate, other_image_rows=5)
    scores = evaluate_run(run, settings=settings, base_model_rows=0)
    assert scores["rows"] > 5
    assert scores["shuffled"]["rows"] == scores["blank"]["rows"] == scores["grounding"]["rows"] == 5
    lines = pq.read_table(run / "predictions.parquet").to_pylist()
    real = {line["row"]: line for line in lines if line["images"] == "real"}
    other = [line for line in lines if line["images"] == "shuffled"]
    assert len(real) == scores["rows"]
    assert len(other) == 5
    for line in other:
        own, shown = real[line["row"]], real[line["shown"]]
        assert (line["key"], line["expected"], line["image"]) == (own["key"], own["expected"], own["image"])
        assert shown["expected"] != own["expected"]
    assert {line["shown"] for line in other} <= {line["row"] for line in other}
    write_report([run])


def test_answers_that_will_be_cut_are_named_before_the_first_one(
    base: Path, products: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scores = evaluate_model(bare(base, products, tmp_path / "out", max_new_tokens=4, rows=2))
    assert "evaluate.max_new_tokens = 4" in caplog.text
    assert scores["parse_rate"] == 0
    assert scores["reasons"] == {"cut at 4 tokens": 2}
    assert any("longer answers are cut" in line for line in lines(scores))


def lines(scores: dict[str, Any]) -> list[str]:
    return list(scores["verdict"]["lines"])


def test_a_base_that_is_gone_is_named(base: Path, products: Path, tmp_path: Path) -> None:
    """A run that was trained whole stands without it; one with adapters does not."""
    moved = shutil.copytree(base, tmp_path / "base")
    run = trained(products, tmp_path / "run", model=str(moved), steps=1, evaluate_every=1)
    shutil.rmtree(moved)
    scores = evaluate_run(run, settings=changed(read_run(run).evaluate, rows=3))
    assert "base_model" not in scores
    assert any(
        "not checked" in line and "was made from the base model" in line and str(moved) in line
        for line in lines(scores)
    )


def test_the_untrained_model_needs_no_data_set(tiny_run: Path, products: Path, tmp_path: Path) -> None:
    run, data = shutil.copytree(tiny_run, tmp_path / "run"), shutil.copytree(products, tmp_path / "data")
    config = (run / "config.yaml").read_text().replace(str(products), str(tmp_path / "gone"))
    (run / "config.yaml").write_text(config)
    settings = changed(read_run(run).evaluate, rows=3)
    assert evaluate_run(run, data=data, settings=settings)["base_model"]["rows"] == 3


def test_a_model_that_is_no_run_has_a_report(of_base: Path, base: Path, products: Path) -> None:
    (run,) = report_json([of_base])["runs"]
    assert run["scores"]["rows"] == len(answers(of_base, "real"))
    assert run["config"]["model"]["name"] == str(base)
    assert {"shuffled", "baselines", "grounding"} <= run["scores"].keys()
    assert "base_model" not in run["scores"]
    assert write_report([of_base]).stat().st_size > 10_000
    written = (of_base / "predictions.real.jsonl").stat().st_mtime_ns
    evaluate_model(bare(base, products, of_base))
    assert (of_base / "predictions.real.jsonl").stat().st_mtime_ns == written, "finished answers are not asked again"
    with pytest.raises(RunError, match="holds the results of something else"):
        evaluate_model(bare(products, products, of_base))


def test_constrained_answers_can_all_be_read(base: Path, products: Path, tmp_path: Path) -> None:
    """Even of an untrained model, whose free answers are noise."""
    free = evaluate_model(bare(base, products, tmp_path / "free"))
    held = evaluate_model(bare(base, products, tmp_path / "held", constrained=True, max_new_tokens=96))
    assert free["parse_rate"] == 0
    assert held["parse_rate"] == 1
    known = set(pq.read_table(products / "metadata.parquet")["category3_code"].to_pylist())
    given = pq.read_table(tmp_path / "held" / "predictions.parquet")["predicted"].to_pylist()
    assert {one["category3_code"] for one in given} <= known
    dearest = max(
        pq.read_table(products / "metadata.parquet", filters=[("split", "=", "train")])["full_price"].to_pylist()
    )
    assert all(0 <= one["full_price"] < 10 ** len(f"{dearest:.0f}") for one in given), "numbers look like known ones"
    with pytest.raises(EvaluationError, match=r"evaluate.max_new_tokens = 24 is too few for constrained answers"):
        evaluate_model(bare(base, products, tmp_path / "short", constrained=True))


def test_one_row(tiny_run: Path) -> None:
    scores = evaluate_run(tiny_run, settings=changed(read_run(tiny_run).evaluate, rows=1))
    assert scores["rows"] == 1
    assert "shuffled" not in scores
    assert scores["verdict"]["uses_image"] is None
    assert "not checked (1 rows with 1 different image cannot swap images" in lines(scores)[0]
    assert set(scores["not_checked"]) == {"shuffled", "mismatched", "calibration"}
    assert write_report([tiny_run]).is_file()


def other_table(products: Path, folder: Path, **columns: Any) -> Path:
    """The same data set with some columns replaced (none: taken out)."""
    shutil.copytree(products, folder)
    table = pq.read_table(folder / "metadata.parquet")
    for name, values in columns.items():
        place = table.column_names.index(name)
        table = table.remove_column(place)
        if values is not None:
            table = table.append_column(name, pa.array([values(row) for row in range(table.num_rows)]))
    pq.write_table(table, folder / "metadata.parquet")
    return folder


def test_a_data_set_whose_fields_differ_from_the_task(tiny_run: Path, products: Path, tmp_path: Path) -> None:
    data = other_table(products, tmp_path / "data", full_price=None)
    with pytest.raises(TaskError, match=r"the task asks for full_price but .* has the columns"):
        evaluate_run(tiny_run, data=data)


def test_prices_that_are_no_numbers(tiny_run: Path, products: Path, tmp_path: Path) -> None:
    some = other_table(products, tmp_path / "some", full_price=lambda row: float("nan") if row % 2 else 12.5)
    scores = evaluate_run(tiny_run, data=some)
    assert scores["left_out"] == {"field 'full_price' is empty": 8 - scores["rows"]}
    assert 0 < scores["rows"] < 8
    every = other_table(products, tmp_path / "every", full_price=lambda row: float("nan"))
    with pytest.raises(
        EvaluationError, match="has 8 rows, none of them usable: field 'full_price' is empty; choose another"
    ):
        evaluate_run(tiny_run, data=every)


def test_an_empty_split(tiny_run: Path, products: Path, tmp_path: Path) -> None:
    data = other_table(products, tmp_path / "data", split=lambda row: "train")
    with pytest.raises(EvaluationError, match=r"'validation' of .* is empty: the data set has train \d+; .*--split"):
        evaluate_run(tiny_run, data=data)


def test_a_data_set_without_a_training_split(tiny_run: Path, products: Path, tmp_path: Path) -> None:
    data = other_table(products, tmp_path / "data", split=lambda row: "validation")
    scores = evaluate_run(tiny_run, data=data, settings=changed(read_run(tiny_run).evaluate, rows=3), base_model_rows=0)
    assert "baselines" not in scores
    assert "the split 'train'" in scores["not_checked"]["baselines"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL"], "add --data DIR"),
        (["MODEL", "--data", "DATA"], "add --data DIR"),
        (["RUN", "--out", "x"], "keeps its own results"),
        (["RUN", "--set", "evaluate.batch_sise=3"], "did you mean 'evaluate.batch_size'"),
    ],
)
def test_commands_that_cannot_work(arguments: list[str], message: str, tiny_run: Path, base: Path) -> None:
    named = {"MODEL": str(base), "RUN": str(tiny_run)}
    done = CliRunner().invoke(app, ["evaluate", *(named.get(one, one) for one in arguments)])
    assert isinstance(done.exception, SettingsError)
    assert message in str(done.exception)


def test_the_command_evaluates_a_model(base: Path, products: Path, tmp_path: Path) -> None:
    options = ["--split", "validation", "--rows", "3", "--set", "evaluate.max_new_tokens=56", "--constrained"]
    places = ["--data", str(products), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["evaluate", str(base), *places, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    config = read_run(tmp_path / "out").evaluate
    assert (config.rows, config.max_new_tokens, config.constrained) == (3, 56, True)
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["rows"] == 3
