"""Fused layers compute what the layers as written compute: values, every gradient, and less kept between them."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.models.phi3.modeling_phi3 import Phi3DecoderLayer

from phisight.core.settings import LoraSettings, TrainSettings
from phisight.train.acceleration import patch
from phisight.train.acceleration.fused_linear import (
    ACTIVATIONS,
    ONE_DNN,
    Adapter,
    PackedLinear,
    fused_linear,
    product,
)
from phisight.train.acceleration.patch import fuse_for_prediction, fused_forwards, fused_layers
from phisight.train.acceleration.rms_norm import rms_norm
from phisight.train.acceleration.rotary_attention import turned
from phisight.train.trainable.methods import apply_method


def gradients(loss: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, leaves)


def original(activation: str | None) -> Callable[[Tensor], Tensor]:
    if activation == "swiglu":
        return lambda x: nn.functional.silu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1]
    return (lambda x: x * torch.sigmoid(1.702 * x)) if activation else lambda x: x


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("adapted", [False, True])
def test_a_fused_layer_is_the_formula(activation: str | None, *, adapted: bool) -> None:
    """In float64, where oneDNN's products are not taken, and in float32, where they are."""
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        torch.manual_seed(0)
        width = 24 if activation == "swiglu" else 12
        x, weight = torch.randn(3, 5, width, dtype=dtype), torch.randn(7, 12, dtype=dtype)
        bias, down, up = torch.randn(7, dtype=dtype), torch.randn(2, 12, dtype=dtype), torch.randn(7, 2, dtype=dtype)
        leaves = [one.requires_grad_() for one in (x, weight, bias, down, up)]
        adapter = Adapter(down, up, 0.7) if adapted else None
        fused = fused_linear(x, weight, bias, adapter, activation)
        inner = original(activation)(x)
        plain = linear(inner, weight, bias)
        if adapted:
            plain = plain + 0.7 * linear(linear(inner, down), up)
        torch.testing.assert_close(fused, plain, rtol=tolerance, atol=tolerance)
        seen = leaves if adapted else leaves[:3]
        way = torch.randn_like(plain)
        pairs = zip(gradients((fused * way).sum(), *seen), gradients((plain * way).sum(), *seen), strict=True)
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=tolerance * 10, atol=tolerance * 10)


def test_rms_norm_is_the_librarys() -> None:
    from transformers.models.phi3.modeling_phi3 import Phi3RMSNorm

    torch.manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16):
        norm = Phi3RMSNorm(16, eps=1e-3).to(dtype)
        norm.weight.data.normal_()
        x = torch.randn(2, 3, 16, dtype=dtype, requires_grad=True)
        ours, theirs = rms_norm(x, norm.weight, 1e-3), norm(x)
        assert ours.dtype == theirs.dtype == dtype
        torch.testing.assert_close(ours, theirs)
        with torch.no_grad():
            torch.testing.assert_close(rms_norm(x, norm.weight, 1e-3), theirs)
        way, close = torch.randn_like(theirs), 1e-5 if dtype == torch.float32 else 0.05
        for mine, other in zip(
            gradients((ours * way).sum(), x, norm.weight), gradients((theirs * way).sum(), x, norm.weight), strict=True
        ):
            torch.testing.assert_close(mine, other, rtol=close, atol=close)


@pytest.mark.skipif(not ONE_DNN, reason="products of this processor are not oneDNN's")
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_a_packed_weight_follows_the_weight(activation: str | None) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(40, 30)
    packed = PackedLinear(layer)
    for rows in (1, 7, 100):
        x = torch.randn(rows, 80 if activation == "swiglu" else 40)
        with torch.inference_mode():
            found = fused_linear(x, layer.weight, layer.bias, None, activation, packed)
        torch.testing.assert_close(found, layer(original(activation)(x)), rtol=2e-5, atol=2e-5)
        with torch.no_grad():
            layer.weight += 1  # as a step of training, or a checkpoint that is loaded
            layer.bias.add_(2)


@pytest.mark.parametrize("pack", [False, True])
def test_a_model_fused_for_prediction_gives_the_same_logits(
    model: Any, batch: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *, pack: bool
) -> None:
    monkeypatch.setattr(patch, "stays_in_caches", lambda _model: pack)
    with torch.no_grad():
        plain = model.eval()(**batch).logits
        fuse_for_prediction(model)
        torch.testing.assert_close(model(**batch).logits, plain, rtol=1e-4, atol=1e-4)


def inner_product(states: Sequence[Tensor], ways: Sequence[Tensor]) -> Tensor:
    return torch.stack([(one * way).sum() for one, way in zip(states, ways, strict=True)]).sum()


def test_queries_and_keys_turn_as_in_the_library() -> None:
    from transformers.models.phi3.modeling_phi3 import apply_rotary_pos_emb

    torch.manual_seed(0)
    heads, key_heads, width = 4, 2, 6
    qkv, angles = torch.randn(3, 5, (heads + 2 * key_heads) * width), torch.randn(3, 5, width // 2).repeat(1, 1, 2)
    states, cos, sin = qkv.view(3, 5, -1, width).transpose(1, 2), angles.cos(), angles.sin()
    theirs = apply_rotary_pos_emb(states[:, :heads], states[:, heads : heads + key_heads], cos, sin)
    with torch.no_grad():
        query, key, value = turned(qkv, cos, sin, heads, key_heads)
    torch.testing.assert_close(query, theirs[0])
    torch.testing.assert_close(key, theirs[1])
    assert value.equal(states[:, heads + key_heads :])
    leaves = qkv.clone().requires_grad_(), qkv.clone().requires_grad_()
    states = leaves[1].view(3, 5, -1, width).transpose(1, 2)
    split = torch.split(states, [heads, key_heads, key_heads], dim=1)
    ours, theirs = turned(leaves[0], cos, sin, heads, key_heads), apply_rotary_pos_emb(*split[:2], cos, sin)
    ways = [torch.randn_like(one) for one in ours]
    (of_ours,) = gradients(inner_product(ours, ways), leaves[0])
    (of_theirs,) = gradients(inner_product((*theirs, split[2]), ways), leaves[1])
    torch.testing.assert_close(of_ours, of_theirs)


def test_products_take_views() -> None:
    torch.manual_seed(0)
    left, right = torch.randn(40, 6).t()[:, ::2], torch.randn(30, 20).t()
    torch.testing.assert_close(product(left, right), left @ right)
    torch.testing.assert_close(product(left, right, torch.ones(30)), left @ right + 1)


METHODS = [
    {"method": "full", "train_tower": True},
    {"method": "lora", "train_tower": True},
    {"method": "lora", "from_layer": 1},
    {"method": "dora"},
    {"method": "projector"},
]


def losses_and_gradients(model: Any, batch: dict[str, Any], *, bf16: bool) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext():
        loss = model(**batch, skip_logits=True).loss
    loss.backward()
    return loss.detach(), {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("train", METHODS, ids=lambda train: "-".join(map(str, train.values())))
@pytest.mark.parametrize("bf16", [False, True])
def test_a_fused_model_gives_the_same_loss_and_gradients(
    train: dict[str, Any], model: Any, batch: dict[str, Any], *, bf16: bool
) -> None:
    wanted = TrainSettings(bf16=bf16, **train)
    adapted: Any = apply_method(model, wanted, LoraSettings(rank=4))
    generator = torch.Generator().manual_seed(1)
    for name, one in adapted.named_parameters():
        if "lora_B" in name:  # zero at first: half of the gradients would be, too
            one.data.normal_(0, 0.05, generator=generator)
    adapted.train()
    plain, theirs = losses_and_gradients(adapted, batch, bf16=bf16)
    with fused_layers(adapted, wanted=True):
        fused, ours = losses_and_gradients(adapted, batch, bf16=bf16)
    again, _ = losses_and_gradients(adapted, batch, bf16=bf16)
    assert torch.equal(plain, again), "layers are as written again after the block"
    assert ours.keys() == theirs.keys()
    torch.testing.assert_close(fused, plain, rtol=3e-3 if bf16 else 1e-6, atol=0)
    for name, one in theirs.items():
        size = float(one.norm())
        assert ours[name].dtype == one.dtype
        assert float((ours[name] - one).norm()) <= (0.06 if bf16 else 1e-4) * size + 1e-6, name


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("padded", [False, True])
def test_the_last_layer_leaves_out_what_no_label_is_read_from(
    attention: str, model: Any, batch: dict[str, Any], *, padded: bool
) -> None:
    model.set_attn_implementation(attention)
    given = batch if padded else {name: one for name, one in batch.items() if name != "attention_mask"}
    first = int(given["labels"].ne(-100).any(dim=0).nonzero()[0]) - 1
    lengths: list[int] = []
    model.model.layers[-1].mlp.gate_up_proj.register_forward_hook(lambda _layer, _in, out: lengths.append(out.shape[1]))
    plain, theirs = losses_and_gradients(model, given, bf16=False)
    with fused_layers(model, wanted=True):
        fused, ours = losses_and_gradients(model, given, bf16=False)
        model(**given)
    every = given["input_ids"].shape[1]
    assert first > 1
    assert lengths == [every, every - first, every], "all positions where logits are asked for"
    torch.testing.assert_close(fused, plain, rtol=1e-6, atol=0)
    for name, one in theirs.items():
        assert float((ours[name] - one).norm()) <= 1e-4 * float(one.norm()) + 1e-6, name


def test_what_cannot_be_fused_stays_with_its_library(model: Any) -> None:
    dropping = apply_method(model, TrainSettings(method="lora"), LoraSettings(rank=2, dropout=0.1))
    kinds = {type(module).__module__.split(".")[0] for module in fused_forwards(dropping)}
    assert kinds == {"torch", "transformers"}, "base layers and norms, but no layer of peft"
    assert not any(type(module) is Phi3DecoderLayer for module in fused_forwards(dropping)), (
        "draws are for all positions"
    )


def test_a_switched_off_adapter_is_off(model: Any, batch: dict[str, Any]) -> None:
    adapted: Any = apply_method(model, TrainSettings(method="lora"), LoraSettings(rank=2))
    for name, one in adapted.named_parameters():
        if "lora_B" in name:
            one.data.fill_(0.1)
    with torch.no_grad(), fused_layers(adapted, wanted=True):
        on = adapted(**batch).loss
        with adapted.disable_adapter():
            off = adapted(**batch).loss
    with torch.no_grad(), adapted.disable_adapter():
        torch.testing.assert_close(adapted(**batch).loss, off)
    assert abs(float(on - off)) > 1e-3


def test_less_is_kept_for_the_backward_pass(model: Any, batch: dict[str, Any]) -> None:
    """Bytes that autograd holds besides the weights, each storage once."""
    apply_method(model, TrainSettings(method="full", train_tower=True), LoraSettings())
    weights = {one.untyped_storage().data_ptr() for one in model.parameters()}

    def kept() -> int:
        storages: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(**batch, skip_logits=True).loss.backward()
        return sum(storages.values())

    model.train()
    plain = kept()
    with fused_layers(model, wanted=True):
        fused = kept()
    assert fused < 0.8 * plain, f"{fused} bytes fused, {plain} as written"
