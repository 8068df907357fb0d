"""The predictor on the real model class with random weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

from phisight.core.task import Task
from phisight.generate import AnswerGrammar, Predictor, Request

ANSWERS = [
    "Product: Check Scarf, Category: SCARVES, Full Price: 470.0",
    "Product: Felt Hat, Category: HATS, Full Price: 12.99",
    "Product: Schürze mit Taschen, Category: HATS, Full Price: 8.0",
]


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any]:
    from phisight.model.tiny import tiny_config, tiny_model, tiny_processor

    processor = tiny_processor([*ANSWERS, Task().prompt] * 3, vocab_size=400, num_crops=4)
    model = tiny_model(tiny_config(processor.tokenizer, num_hidden_layers=2), seed=3)
    return model.eval(), processor


def requests() -> list[Request]:
    sizes = [(112, 112), (300, 100), (80, 200), (112, 112), (250, 120)]
    images = [Image.effect_noise(size, 90).convert("RGB") for size in sizes]
    return [Request(Task().prompt + " Say more." * (index % 2), [one]) for index, one in enumerate(images)]


def test_a_batch_answers_as_each_request_alone(tiny: tuple[Any, Any]) -> None:
    asked = requests()
    together = dict(Predictor(*tiny, batch_size=5, max_new_tokens=12).answers(asked))
    alone = dict(Predictor(*tiny, batch_size=1, max_new_tokens=12).answers(asked))
    assert together == alone
    assert len(set(together.values())) > 1, "random weights should not answer everything alike"


def test_likelihood_is_the_sum_over_the_answer_s_tokens(tiny: tuple[Any, Any]) -> None:
    model, processor = tiny
    asked = requests()[:3]
    found = dict(Predictor(model, processor, batch_size=3).likelihoods(asked, ANSWERS))
    for index, (request, answer) in enumerate(zip(asked, ANSWERS, strict=True)):
        prompt = processor.apply_chat_template(request.messages(), add_generation_prompt=True, tokenize=False)
        inputs = processor(text=[prompt + answer], images=[list(request.images)], return_tensors="pt")
        start = processor(text=[prompt], images=[list(request.images)], return_tensors="pt")["input_ids"].shape[1]
        with torch.no_grad():
            scores = model(**inputs).logits[0].log_softmax(-1)
        ids = inputs["input_ids"][0]
        expected = sum(scores[place - 1, ids[place]].item() for place in range(start, len(ids)))
        assert found[index].log_probability == pytest.approx(expected, abs=1e-3)
        assert found[index].tokens == len(ids) - start


def test_random_weights_held_to_the_template_answer_readably(tiny: tuple[Any, Any]) -> None:
    model, processor = tiny
    end = model.generation_config.eos_token_id
    grammar = AnswerGrammar(
        Task(), processor.tokenizer, {"category3_code": ["HATS", "SCARVES"]}, end, max_text_tokens=12
    )
    answers = dict(Predictor(model, processor, max_new_tokens=80, grammar=grammar).answers(requests()))
    assert [Task().parse(answer).reason for answer in answers.values()] == [None] * 5
