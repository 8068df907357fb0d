"""A model that is evaluated computes as one that predicts: the same attention, the same fused layers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from phisight.core.settings import ModelSettings
from phisight.export.subject import read_trained_run
from phisight.workflows.evaluate import evaluate_run
from phisight.workflows.load import load_model, to_predict
from phisight.workflows.results_folder import Evaluation

TINY_BASE = ModelSettings(name="tiny-base", dtype="float32", attention="eager")
IDS = torch.randint(10, 100, (2, 12), generator=torch.Generator().manual_seed(0))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.mark.parametrize(("given", "becomes"), [("eager", "sdpa"), ("sdpa", "sdpa")])
def test_logits_stay(given: str, becomes: str) -> None:
    model, _ = load_model("tiny-base", TINY_BASE.model_copy(update={"attention": given}))
    before = logits(model)
    to_predict(model)
    assert model.config._attn_implementation == becomes
    assert "forward" in vars(model.model.layers[0])
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-4)


def test_weights_that_change_afterwards_are_read() -> None:
    """Adapters are merged into a base that has answered already."""
    answered, fresh = (load_model("tiny-base", TINY_BASE)[0] for _ in range(2))
    to_predict(answered)
    before = logits(answered)
    with torch.no_grad():
        for model in (answered, fresh):
            generator = torch.Generator().manual_seed(1)
            for name, weight in model.named_parameters():
                if "layers" in name and weight.dim() == 2:
                    weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    to_predict(fresh)
    torch.testing.assert_close(logits(answered), logits(fresh), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(logits(answered), before, rtol=1e-2, atol=1e-2)


def test_an_evaluation_computes_as_a_prediction(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []
    answers = Evaluation.answers

    def watched(evaluation: Evaluation, *arguments: Any, **options: Any) -> Any:
        model = evaluation.model
        asked.append((model.config._attn_implementation, "forward" in vars(model.model.layers[0])))
        return answers(evaluation, *arguments, **options)

    monkeypatch.setattr(Evaluation, "answers", watched)
    settings = read_trained_run(tiny_run).evaluate.model_copy(update={"split": "train", "rows": 2})
    evaluate_run(tiny_run, settings=settings, base_model_rows=1)
    assert len(asked) >= 2
    assert set(asked) == {("sdpa", True)}
