"""Layer 3: model and processor -> answers.

    predictor = Predictor(model, processor, batch_size=16, max_new_tokens=64)
    requests = [Request(task.prompt, [Path("images/A-1.jpg")]), ...]
    for index, text in predictor.answers(requests, on_failure=...): ...
    for index, likelihood in predictor.likelihoods(requests, answers): ...

``AnswerGrammar`` holds answers to a task's template (``Predictor(..., grammar=...)``); ``HeadNumbers`` and
``ExpectedNumbers`` decide which number an answer carries (``Predictor(..., numbers=...)``).
"""

from phisight.generate.constrained import AnswerGrammar
from phisight.generate.decoding.vocabulary import token_bytes
from phisight.generate.number_decoding import (
    ExpectedNumbers,
    HeadNumbers,
    NumberWriter,
    number_positions,
    number_writer,
)
from phisight.generate.predictor import Generation, Likelihood, OnFailure, Predictor
from phisight.generate.requests import ImageSource, Request, load_rgb

__all__ = [
    "AnswerGrammar",
    "ExpectedNumbers",
    "Generation",
    "HeadNumbers",
    "ImageSource",
    "Likelihood",
    "NumberWriter",
    "OnFailure",
    "Predictor",
    "Request",
    "load_rgb",
    "number_positions",
    "number_writer",
    "token_bytes",
]
