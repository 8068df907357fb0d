"""Phi-3-Vision and Phi-3.5-Vision on the library's Phi-3 decoder and CLIP tower.

    Phi3VisionForConditionalGeneration.forward(input_ids, pixel_values, image_sizes, labels)
    ├── model: Phi3VisionModel.forward
    │   ├── embed                              ids_BT -> embeds_BTD
    │   │   ├── embed_tokens                   the library's table
    │   │   ├── vision_embed_tokens            images -> embeddings of width D         vision.py
    │   │   │   └── tower_features -> lay_out -> project
    │   │   └── masked_scatter                 image placeholders <- embeddings        placeholders.py
    │   ├── rotary_emb                         positions_BT -> cos, sin                rope.py
    │   └── layers, norm                       the library's Phi3Model                 attention.py
    ├── lm_head                                hidden_BTD -> logits_BTV
    └── loss_function, or labeled_loss where nobody reads the logits                   loss.py
        └── number_head.loss                                                           number_head.py

Shapes: B batch, T text position, D decoder width, V vocabulary, I images, C crops of an image (the thumbnail counted),
S pixels of a crop's side, n tokens of a crop's side, M merged width of the tower's features
Parameter names are the official ones, so a state dict is a published checkpoint and the other way round.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, GenerationMixin
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.models.phi3.modeling_phi3 import Phi3DecoderLayer, Phi3Model, Phi3PreTrainedModel

from phisight.core.errors import ImagePlaceholderError
from phisight.model import checkpoint
from phisight.model.attention import labeled_queries, run_layers
from phisight.model.configuration import Phi3VConfig
from phisight.model.loss import IGNORED, labeled_loss
from phisight.model.number_head import NumberHead, save_beside
from phisight.model.placeholders import images_of_runs, placeholder_mask, placeholder_runs
from phisight.model.rope import LongRotaryEmbedding, crosses_original_length, positions_without_padding
from phisight.model.vision import ImageEmbedding, fill, images_given, initialize_vision


class Phi3VisionPreTrainedModel(Phi3PreTrainedModel):
    """What model and head share: configuration, initial values, layers that stay on one device."""

    config_class = Phi3VConfig
    config: Phi3VConfig
    input_modalities = ("image", "text")
    _no_split_modules: ClassVar = [Phi3DecoderLayer.__name__, CLIPEncoderLayer.__name__]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, LongRotaryEmbedding) and module.original_length is not None:
            fill(module.long_inv_freq, module.long_frequencies())
        initialize_vision(module, self.config.initializer_range)


class Phi3VisionModel(Phi3VisionPreTrainedModel, Phi3Model):
    """Token and image embeddings and the decoder; returns hidden_BTD after the final norm."""

    def __init__(self, config: Phi3VConfig) -> None:
        super().__init__(config)
        vision = config.vision_config
        # The tower is no model of its own, so nothing else sets its attention back end.
        if isinstance(vision, CLIPVisionConfig) and vision._attn_implementation is None:
            vision._attn_implementation = config._attn_implementation
        self.rotary_emb = LongRotaryEmbedding(config)
        self.vision_embed_tokens = ImageEmbedding(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        image_features: Tensor | None = None,
        trunk_states: Tensor | None = None,
        first_layer: int = 0,
        image_index: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Run the decoder over text and images; ``input_ids`` int64[B, T] are never changed.

        ``trunk_states`` [B, T, D], what ``trunk`` returned for ``first_layer``, replace ids and images.
        """
        if trunk_states is not None:
            if position_ids is None and attention_mask is not None:
                position_ids = positions_without_padding(self.config, attention_mask, trunk_states.shape[1])
            last = len(self.layers)
            hidden_BTD = run_layers(self, trunk_states, first_layer, last, attention_mask, position_ids, **kwargs)
            return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden_BTD))
        if "sample_lengths" in kwargs:
            use_cache = False  # the library looks for packed samples only without a cache
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("give input_ids or inputs_embeds")
            inputs_embeds = self.embed(input_ids, pixel_values, image_sizes, image_features, image_index)
        if position_ids is None and attention_mask is not None and attention_mask.ndim == 2:
            position_ids = positions_without_padding(self.config, attention_mask, inputs_embeds.shape[1])
        return cast(
            BaseModelOutputWithPast,
            super().forward(
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                inputs_embeds=inputs_embeds,
                use_cache=use_cache,
                **kwargs,
            ),
        )

    def trunk(
        self,
        first_layer: int,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        image_features: Tensor | None = None,
    ) -> Tensor:
        """Hidden states [B, T, D] before decoder layer ``first_layer``, of rows without padding."""
        return run_layers(self, self.embed(input_ids, pixel_values, image_sizes, image_features), 0, first_layer)

    def embed(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        image_features: Tensor | None = None,
        image_index: Tensor | None = None,
    ) -> Tensor:
        """Token embeddings [B, T, D] with image embeddings at the placeholders; ``image_index``: ``images_of_runs``."""
        if not images_given(pixel_values, image_sizes, image_features):
            return self._with_image_part(self._embed_text(input_ids))
        assert image_sizes is not None
        is_image_BT = placeholder_mask(input_ids, self.config.image_token_id)
        runs = placeholder_runs(input_ids, self.config.image_token_id)
        order = images_of_runs(runs, self.vision_embed_tokens.token_counts(image_sizes), image_index)
        embeds_BTD = self.embed_tokens(input_ids.masked_fill(is_image_BT, 0))
        if not runs:
            return self._with_image_part(embeds_BTD)
        images = self.vision_embed_tokens(pixel_values, image_sizes, image_features)
        source = torch.cat([images[index] for index in order]).to(embeds_BTD)
        return cast(Tensor, embeds_BTD.masked_scatter(is_image_BT[..., None], source))

    def _with_image_part(self, embeds_BTD: Tensor) -> Tensor:
        """Embeddings of a batch without images; see ``ImageEmbedding.zero``."""
        if self.training and torch.distributed.is_available() and torch.distributed.is_initialized():
            return embeds_BTD + self.vision_embed_tokens.zero().to(embeds_BTD)
        return embeds_BTD

    def _embed_text(self, input_ids: Tensor) -> Tensor:
        # A step of one token cannot hold an image; reading its value would break a compiled decoder's graph.
        if input_ids.shape[-1] > 1 and not torch.compiler.is_compiling():
            placeholders = int(placeholder_mask(input_ids, self.config.image_token_id).sum())
            if placeholders:
                raise ImagePlaceholderError(
                    f"the prompts hold {placeholders} image placeholders but no pixel_values and image_sizes are "
                    "given; pass what the processor returned"
                )
        return cast(Tensor, self.embed_tokens(input_ids))


class Phi3VisionForConditionalGeneration(Phi3VisionPreTrainedModel, GenerationMixin):
    """Phi-3-Vision with its language head: images and text to text."""

    _tied_weights_keys: ClassVar = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: Phi3VConfig) -> None:
        super().__init__(config)
        self.model = Phi3VisionModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.number_head: NumberHead | None = None
        self.post_init()
        checkpoint.stop_at_turn_end(self.generation_config, config)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        image_features: Tensor | None = None,
        trunk_states: Tensor | None = None,
        first_layer: int = 0,
        skip_logits: bool = False,
        label_weights: Tensor | None = None,
        numbers: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [B, T, V] and, with ``labels`` int64[B, T], the mean loss over the labels that are not -100.

        Args:
            pixel_values: [I, C, 3, S, S] in batch order, with ``image_sizes`` int64[I, 2]; rows may lack images.
            image_features: [I, C, n, n, M], the tower's features of these crops, instead of pixels.
            trunk_states: [B, T, D], hidden states before decoder layer ``first_layer``, instead of all before it.
            labels: Those at image placeholders are ignored whatever they hold.
            skip_logits: With labels, run the head at the labeled positions only: the same loss in memory that does not
                grow with T x V; ``logits`` is None. Only then are the next two read.
            label_weights: float[B, T], how often each label counts.
            numbers: float[B, T], targets of the number head, NaN where there is none.
        """
        in_training = labels is not None and past_key_values is None  # there a cache would be copies for nobody
        if labels is not None and input_ids is not None:
            labels = labels.masked_fill(placeholder_mask(input_ids, self.config.image_token_id), IGNORED)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=False if use_cache is None and in_training else use_cache,
            pixel_values=pixel_values,
            image_sizes=image_sizes,
            image_features=image_features,
            trunk_states=trunk_states,
            first_layer=first_layer,
            **labeled_queries(self.model, labels if skip_logits else None, **kwargs),
            **kwargs,
        )
        hidden_BTD, loss, logits_BTV = outputs.last_hidden_state, None, None
        if labels is not None and skip_logits:
            loss = labeled_loss(self, hidden_BTD, labels.to(hidden_BTD.device), label_weights, numbers, **kwargs)
        else:
            last = isinstance(logits_to_keep, int) and logits_to_keep
            keep = slice(-logits_to_keep, None) if last else logits_to_keep
            logits_BTV = self.lm_head(hidden_BTD if isinstance(keep, int) else hidden_BTD[:, keep])
            if labels is not None:
                loss = self.loss_function(logits=logits_BTV, labels=labels, vocab_size=self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits_BTV,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        past_key_values: Any = None,
        attention_mask: Tensor | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Inputs of the next step; the whole prefix, images included, when a row switches to the long rotary factors.

        Keys cached under the short factors are invalid under the long ones, so the cache is rebuilt once.
        """
        if crosses_original_length(self.config, input_ids, attention_mask, next_sequence_length):
            next_sequence_length, is_first_iteration = None, True
            past_key_values = _emptied(past_key_values)
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids,
            next_sequence_length=next_sequence_length,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            is_first_iteration=is_first_iteration,
            **kwargs,
        )
        if not is_first_iteration and kwargs.get("use_cache", True):
            inputs.pop("image_features", None)  # as the library does with pixels
        if inputs.get("pixel_values") is None and inputs.get("image_features") is None:
            inputs.pop("image_sizes", None)
        return inputs

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str] | None, *args: Any, **kwargs: Any) -> Self:
        """Load a checkpoint strictly: CheckpointError lists missing, extra and mis-shaped tensors.

        After loading, every value in memory is compared with the file (``verify=False`` leaves that out).
        """
        return cast(Self, checkpoint.load_strictly(super().from_pretrained, name, *args, **kwargs))

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Write the official layout; a number head goes into a file of its own beside it."""
        save_beside(self, super().save_pretrained, Path(save_directory), *args, **kwargs)


def _emptied(cache: Any) -> Any:
    """A static cache reset in place, since compiled code holds its address; None, a new one, instead of any other."""
    if cache is not None and getattr(cache, "is_compileable", False):
        cache.reset()
        return cache
    return None
