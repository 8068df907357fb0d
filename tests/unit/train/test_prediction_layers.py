"""Whole layers as one function: what the library's layers compute, and theirs wherever something is asked for."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.models.phi3.modeling_phi3 import Phi3DecoderLayer

from phisight.model.attention import run_step, run_to_last_position
from phisight.train.acceleration.fused_linear import ONE_DNN
from phisight.train.acceleration.patch import fuse_for_prediction
from phisight.train.acceleration.prediction_layers import prediction_layer
from tests.helpers import small_model

pytestmark = pytest.mark.skipif(not ONE_DNN, reason="products of this processor are not oneDNN's")

CHANGES: list[dict[str, Any]] = [{}, {"num_key_value_heads": 2}, {"sliding_window": 5}]


def answered(model: Any, lengths: list[int], steps: int) -> tuple[list[Tensor], DynamicCache]:
    """Hidden states of prompts' last positions and of some steps behind them, by the parts that a scheduler calls."""
    width = max(lengths)
    ids = torch.randint(5, 100, (len(lengths), width + steps), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[0] * (width - length) + [1] * (length + steps) for length in lengths])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    decoder, cache = model.model, DynamicCache()
    window = model.config.sliding_window or width + steps
    embeds = decoder.embed(ids[:, :width])
    found = [run_to_last_position(decoder, embeds, mask[:, :width], positions[:, :width], cache)]
    for place in range(width, width + steps):
        at = positions[:, place : place + 1]
        seen = mask[:, : place + 1].bool() & (positions[:, : place + 1] > at - window)
        shut = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
        found.append(run_step(decoder, decoder.embed_tokens(ids[:, place : place + 1]), shut[:, None, None], at, cache))
    return found, cache


@pytest.mark.parametrize("lengths", [[9], [9, 9], [12, 7, 1]])
@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_a_decoder_of_them_answers_as_the_librarys(changes: dict[str, Any], lengths: list[int]) -> None:
    model = small_model.model(**changes).eval()
    with torch.inference_mode():
        before, cache = answered(model, lengths, 3)
        fuse_for_prediction(model)
        assert all("_decoder_layer" in layer.forward.__qualname__ for layer in model.model.layers)
        after, same = answered(model, lengths, 3)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(same.layers, cache.layers, strict=True):
        real = ours.keys.isfinite()
        torch.testing.assert_close(ours.keys[real], theirs.keys[real], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("causal_to_window", [4, None])
def test_a_step_sees_what_its_mask_says(causal_to_window: int | None) -> None:
    """A planted fault: with another window the hidden states are others."""
    model = small_model.model(sliding_window=5).eval()
    fuse_for_prediction(model)
    with torch.inference_mode():
        right, _ = answered(model, [9], 2)
        model.config.sliding_window = causal_to_window
        wrong, _ = answered(model, [9], 2)
    assert not torch.allclose(right[-1], wrong[-1], rtol=1e-3, atol=1e-4)


def some_layer(kind: type[nn.Module]) -> Any:
    return next(module for module in small_model.model().eval().modules() if type(module) is kind)


def states_of(kind: type[nn.Module], layer: Any) -> tuple[Callable[[Callable[..., Any]], Tensor], Tensor]:
    """How a layer is called, and the states it is called with."""
    width = (layer.input_layernorm if kind is Phi3DecoderLayer else layer.layer_norm1).weight.shape[0]
    states = torch.randn(2, 6, width, generator=torch.Generator().manual_seed(2))
    if kind is CLIPEncoderLayer:
        return (lambda forward: forward(states, None)), states
    angles = torch.randn(1, 6, layer.self_attn.head_dim, generator=torch.Generator().manual_seed(3))

    def call(forward: Callable[..., Any]) -> Any:
        turns = angles.to(states.dtype)
        return forward(states, position_embeddings=(turns.cos(), turns.sin()))

    return call, states


@pytest.mark.parametrize("kind", [Phi3DecoderLayer, CLIPEncoderLayer])
def test_a_layer_is_the_librarys_and_follows_its_weights(kind: type[nn.Module]) -> None:
    layer = some_layer(kind)
    forward = prediction_layer(layer)
    assert forward is not None
    call, states = states_of(kind, layer)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(call(forward), call(layer), rtol=1e-4, atol=1e-5)
            for parameter in layer.parameters():
                parameter.mul_(1.01).add_(0.01)  # as a checkpoint that is loaded
        assert not torch.equal(call(forward), states)


@pytest.mark.parametrize("kind", [Phi3DecoderLayer, CLIPEncoderLayer])
@pytest.mark.parametrize("asked", ["gradients", "training", "autocast", "eager", "bfloat16"])
def test_what_it_does_not_compute_goes_module_by_module(
    kind: type[nn.Module], asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = some_layer(kind)
    forward = prediction_layer(layer)
    assert forward is not None
    calls: list[nn.Module] = []
    layer.self_attn.register_forward_hook(lambda module, *_: calls.append(module))
    call, states = states_of(kind, layer)
    layer.train(asked == "training")
    if asked == "eager":
        monkeypatch.setattr(layer.self_attn.config, "_attn_implementation", "eager")
    if asked == "bfloat16":
        layer.to(torch.bfloat16)
        states.data = states.to(torch.bfloat16)
    with torch.set_grad_enabled(asked == "gradients"), torch.autocast("cpu", enabled=asked == "autocast"):
        found = call(forward)
    assert calls == [layer.self_attn]
    assert found.requires_grad == (asked == "gradients")


@pytest.mark.parametrize("kind", [Phi3DecoderLayer, CLIPEncoderLayer])
def test_a_layer_with_other_parts_has_none(kind: type[nn.Module]) -> None:
    class Other(nn.Linear):
        pass

    for name, module in list(some_layer(kind).named_modules()):
        if type(module) is nn.Linear:
            layer = some_layer(kind)
            setattr(layer.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], Other(4, 4))
            assert prediction_layer(layer) is None, name
    assert prediction_layer(some_layer(kind).to(torch.bfloat16)) is None
    assert prediction_layer(nn.Linear(4, 4)) is None
