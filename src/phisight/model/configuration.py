"""Configuration of Phi-3-Vision and Phi-3.5-Vision: the official ``config.json``, read and written as published.

The class keeps the official name ``Phi3VConfig``. In memory it is the library's ``Phi3Config`` with a vision part;
``to_dict`` writes the official keys again (``rope_scaling`` of type ``su``, ``torch_dtype``, ``sliding_window`` as the
number of *earlier* keys a query sees), so that a saved file opens in whatever reads the published one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import CLIPVisionConfig, Phi3Config

from phisight.core.errors import CheckpointError
from phisight.core.geometry import PIXELS_PER_TOKEN
from phisight.core.read_files import read_object

VIT_L_14_336: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
"""The tower of both published models, which their ``config.json`` does not spell out."""

EMBD_LAYER: dict[str, Any] = {
    "embedding_cls": "image",
    "hd_transform_order": "sub_glb",
    "projection_cls": "mlp",
    "use_hd_transform": True,
    "with_learnable_separator": True,
}
"""How the published models lay an image out; anything else is an error."""

ARCHITECTURE = "Phi3VForCausalLM"
"""Name under which other software knows the model."""


@strict
class Phi3VConfig(Phi3Config):
    """Phi-3-Vision configuration.

    ``vision_config`` is optional and describes another tower than ViT-L/14-336 (its ``image_size`` is the crop size).
    ``image_token_id`` is the image placeholder (``<|image|>``: in the published vocabulary, unused there);
    official negative ids are accepted, too. ``rope_switch`` says what decides between short and long rotary factors:
    the length of each ``row`` (a row's answer does not depend on its neighbors), or the longest row of the ``batch``
    (as in the official code).
    """

    model_type = "phi3_v"
    sub_configs = {"vision_config": CLIPVisionConfig}  # noqa: RUF012
    auto_map: ClassVar[dict[str, str]] = {}
    """No code of a repository's own is run; TRL looks here before it loads a reference model."""

    vision_config: CLIPVisionConfig | dict[str, Any] | None = None
    img_processor: dict[str, Any] | None = None
    embd_layer: dict[str, Any] | None = None
    image_token_id: int = 32044
    turn_end_token_id: int = 32007
    rope_switch: Literal["row", "batch"] = "row"
    max_position_embeddings: int = 131072
    sliding_window: int | None = 131072
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self, **kwargs: Any) -> None:
        # The published file asks for flash attention here, which would win over what the caller asks for.
        kwargs.pop("_attn_implementation", None)
        kwargs.pop("auto_map", None)
        scaling = kwargs.get("rope_scaling")
        if scaling and scaling.get("type") in ("su", "longrope"):
            factors = {key: value for key, value in scaling.items() if key != "type"}
            factor = self.max_position_embeddings / self.original_max_position_embeddings
            kwargs["rope_scaling"] = {**factors, "rope_type": "longrope", "factor": factor}
        vision = self.vision_config
        if not isinstance(vision, CLIPVisionConfig):
            vision = CLIPVisionConfig(**{**VIT_L_14_336, **(vision or {})})
        self.vision_config = vision
        self.img_processor = self.img_processor or {
            "image_dim_out": vision.hidden_size,
            "model_name": "openai/clip-vit-large-patch14-336",
            "name": "clip_vision_model",
            "num_img_tokens": self.num_img_tokens,
        }
        self.embd_layer = self.embd_layer or dict(EMBD_LAYER)
        window = self.sliding_window
        self.earlier_keys = window
        if window is not None:
            # The library counts the query's own key; a window that cannot be reached is no window.
            self.sliding_window = None if window >= self.max_position_embeddings else window + 1
        super().__post_init__(**kwargs)
        self.architectures: list[str] | None = [ARCHITECTURE]

    @property
    def crop_size(self) -> int:
        """Pixels of a crop's side."""
        assert isinstance(self.vision_config, CLIPVisionConfig)
        assert isinstance(self.vision_config.image_size, int)
        return self.vision_config.image_size

    @property
    def num_img_tokens(self) -> int:
        """Tokens of one crop, separators not counted."""
        return (self.crop_size // PIXELS_PER_TOKEN) ** 2

    @property
    def original_length(self) -> int | None:
        """Longest row under the short rotary factors; None without two sets of factors."""
        if self.rope_parameters.get("rope_type") != "longrope":
            return None
        return int(self.original_max_position_embeddings)

    def validate_layout(self) -> None:
        """Refuse image layouts, towers and projectors that this model does not compute (part of strict validation)."""
        layout = {**EMBD_LAYER, **(self.embd_layer or {})}
        wrong = [f"{key}={layout[key]!r}" for key, value in EMBD_LAYER.items() if layout[key] != value]
        if wrong:
            raise ValueError(f"embd_layer holds {', '.join(wrong)}; only the published layout is known: {EMBD_LAYER}")
        if isinstance(self.vision_config, CLIPVisionConfig):
            side, patch = self.vision_config.image_size, self.vision_config.patch_size
            if patch * 2 != PIXELS_PER_TOKEN or side % PIXELS_PER_TOKEN:
                raise ValueError(
                    f"vision_config has image_size {side} and patch_size {patch}; "
                    f"patches of 14 and a multiple of {PIXELS_PER_TOKEN} pixels are needed"
                )

    def to_dict(self) -> dict[str, Any]:
        """The official ``config.json``; ``vision_config`` stands in it only when it is not ViT-L/14-336."""
        values: dict[str, Any] = super().to_dict()
        rope = dict(values.pop("rope_parameters", None) or {})
        values["rope_theta"] = rope.get("rope_theta", 10_000.0)
        if rope.get("rope_type") == "longrope":
            factors = {key: rope[key] for key in ("long_factor", "short_factor")}
            values["rope_scaling"] = {**factors, "type": "su"}
        values["sliding_window"] = values.pop("earlier_keys", None)
        values["torch_dtype"] = values.pop("dtype", None)
        values["architectures"] = [ARCHITECTURE]
        values["model_type"] = self.model_type
        vision = values["vision_config"]
        if all(vision.get(key) == value for key, value in VIT_L_14_336.items()):
            del values["vision_config"]
        else:
            values["vision_config"] = {key: vision[key] for key in ("model_type", *VIT_L_14_336)}
        return values

    def to_diff_dict(self) -> dict[str, Any]:
        """All keys: what other software reads must not depend on the defaults of this class."""
        return self.to_dict()


CONFIG_FILE = "config.json"
LARGEST_SIZES = {
    "hidden_size": 65_536,
    "intermediate_size": 1_000_000,
    "num_hidden_layers": 1_000,
    "num_attention_heads": 1_024,
    "num_key_value_heads": 1_024,
    "vocab_size": 10_000_000,
    "max_position_embeddings": 100_000_000,
    "original_max_position_embeddings": 100_000_000,
    "image_size": 16_384,
    "patch_size": 1_024,
    "projection_dim": 65_536,
}
"""The largest value of each size; the smallest is 1."""
_LEAST_BYTES = 0.5
"""Of a parameter, in 4 bits."""
_SMALL_FILE = 4_000_000
"""Bytes by which small models may be off."""


def check_model_config(folder: Path) -> None:
    """CheckpointError when a folder's ``config.json`` is damaged, of another architecture, or of a size that none has.

    A folder without one, or a hub name, passes: whoever loads it says what is missing.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        return
    try:
        values = read_object(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{error}; copy the model again") from error
    kind = values.get("model_type")
    if isinstance(kind, str) and kind != Phi3VConfig.model_type:
        raise CheckpointError(f"{folder} holds a {kind} model: phisight trains {Phi3VConfig.model_type}")
    wrong = list(_wrong(values, ""))
    vision = values.get("vision_config")
    if isinstance(vision, Mapping):
        wrong += _wrong(vision, "vision_config.")
    if wrong:
        raise CheckpointError(f"{path}: {'; '.join(wrong[:5])}; copy the model again")
    least, held = _fewest_parameters(values), _weight_bytes(folder)
    if held and least * _LEAST_BYTES > held + _SMALL_FILE:
        raise CheckpointError(
            f"{path} describes a model of {least} parameters or more, the weights beside it hold {held} bytes; one of "
            "them is damaged: copy the model again"
        )


def _weight_bytes(folder: Path) -> int:
    """Bytes of the weights in a folder, adapters and heads left out; 0 where there are none."""
    others = ("adapter_", "number_head")
    return sum(path.stat().st_size for path in folder.glob("*.safetensors") if not path.name.startswith(others))


def _fewest_parameters(values: Mapping[str, Any]) -> int:
    """Parameters that a model of these checked sizes has at least; a size that is not named counts as 1."""
    vision = values.get("vision_config")
    found = _stacked(values, 2)  # the projections of keys and values may be narrow
    found += int(values.get("vocab_size") or 1) * int(values.get("hidden_size") or 1)
    if isinstance(vision, Mapping):
        side = int(vision.get("image_size") or 1) // int(vision.get("patch_size") or 1)
        found += _stacked(vision, 4) + side * side * int(vision.get("hidden_size") or 1)
    return found


def _stacked(values: Mapping[str, Any], square: int) -> int:
    """Parameters of the layers: ``square`` square matrices of attention, and two of the feed-forward part."""
    D, F, layers = (int(values.get(name) or 1) for name in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    return layers * (square * D * D + 2 * D * F)


def _wrong(values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    sizes: dict[str, int] = {}
    for name, largest in LARGEST_SIZES.items():
        value = values.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
            yield f"{prefix}{name} is {str(value)[:40]}, a whole number from 1 to {largest} is due"
        else:
            sizes[name] = value
    width, heads = sizes.get("hidden_size"), sizes.get("num_attention_heads")
    if width and heads and width % heads:
        yield f"{prefix}hidden_size {width} is no multiple of num_attention_heads {heads}"
