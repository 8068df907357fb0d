"""Phi-3-Vision and Phi-3.5-Vision on the library's Phi-3 decoder and CLIP tower.

    Phi3VisionForConditionalGeneration(input_ids, pixel_values, image_sizes, labels)
      model = Phi3VisionModel
        embed_tokens(input_ids)                            ids -> [B, T, D]
        vision_embed_tokens(pixel_values, image_sizes)     pictures -> rows of D        embedding.py
        slots of the ids <- rows                           counted image by image       slots.py
        layers, norm (the library's Phi3Model)             positions by                 rope.py
      lm_head -> logits -> loss over labels != -100

Names of parameters are the official ones, so a state dict is a published checkpoint and the other way round.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, GenerationMixin
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.models.phi3.modeling_phi3 import Phi3Model

from phisight.core.errors import ImageSlotError
from phisight.model import checkpoint
from phisight.model.configuration import Phi3VConfig
from phisight.model.labels import IGNORED
from phisight.model.layers import run_layers
from phisight.model.loss import labelled_loss
from phisight.model.number_head import NumberHead, save_beside
from phisight.model.placeholders import images_of_runs, slot_mask, slot_runs
from phisight.model.pretrained import Phi3VisionPreTrainedModel
from phisight.model.rope import LongRotaryEmbedding
from phisight.model.vision import ImageEmbedding, pictures_given


class Phi3VisionModel(Phi3VisionPreTrainedModel, Phi3Model):
    """Embeddings, image embedding and decoder; returns hidden states after the final norm, [B, T, D]."""

    def __init__(self, config: Phi3VConfig) -> None:
        super().__init__(config)
        vision = config.vision_config
        # The tower is no model of its own, so nobody else tells it how to attend.
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
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Run the decoder over text and pictures. ``input_ids`` int64[B, T] are read, never changed.

        ``trunk_states`` [B, T, D], what ``trunk`` gave for ``first_layer``, stand for ids and pictures.
        """
        if trunk_states is not None:
            if position_ids is None and attention_mask is not None:
                position_ids = self._positions(attention_mask, trunk_states.shape[1])
            last = len(self.layers)
            hidden = run_layers(self, trunk_states, first_layer, last, attention_mask, position_ids, **kwargs)
            return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden))
        if "sample_lengths" in kwargs:
            use_cache = False  # the library looks for packed samples only without a cache
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("give input_ids or inputs_embeds")
            inputs_embeds = self.embed(input_ids, pixel_values, image_sizes, image_features)
        if position_ids is None and attention_mask is not None and attention_mask.ndim == 2:
            position_ids = self._positions(attention_mask, inputs_embeds.shape[1])
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
        embeds = self.embed(input_ids, pixel_values, image_sizes, image_features)
        return run_layers(self, embeds, 0, first_layer)

    def _positions(self, mask: Tensor, new_tokens: int) -> Tensor | None:
        """Positions int64[B, new_tokens] that count real tokens, so that padding makes no row longer than it is.

        Attention is relative, so this matters only where padding could bring on the long rotary factors; elsewhere, and
        under ``rope_switch: batch``, the library counts every place, as the official code does.
        """
        limit = self.config.original_length
        if limit is None or mask.shape[1] <= limit or self.config.rope_switch == "batch":
            return None
        return (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -new_tokens:]

    def embed(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        image_features: Tensor | None = None,
    ) -> Tensor:
        """Token embeddings [B, T, D] with the image slots filled."""
        if not pictures_given(pixel_values, image_sizes, image_features):
            return self._with_image_part(self._embed_text(input_ids))
        assert image_sizes is not None
        slots = slot_mask(input_ids, self.config.image_token_id)
        runs = slot_runs(input_ids, self.config.image_token_id)
        order = images_of_runs(runs, self.vision_embed_tokens.token_counts(image_sizes))
        embeds = self.embed_tokens(input_ids.masked_fill(slots, 0))
        if not runs:
            return self._with_image_part(embeds)
        rows = self.vision_embed_tokens(pixel_values, image_sizes, image_features)
        filling = torch.cat([rows[image] for image in order]).to(embeds)
        return cast(Tensor, embeds.masked_scatter(slots[..., None], filling))

    def _with_image_part(self, embeds: Tensor) -> Tensor:
        """Embeddings of a batch without pictures; see ``ImageEmbedding.zero``."""
        if self.training and torch.distributed.is_available() and torch.distributed.is_initialized():
            return embeds + self.vision_embed_tokens.zero().to(embeds)
        return embeds

    def _embed_text(self, input_ids: Tensor) -> Tensor:
        # A step of one token cannot hold an image; asking its value would cost a compiled decoder its single graph.
        if input_ids.shape[-1] > 1 and not torch.compiler.is_compiling():
            slots = int(slot_mask(input_ids, self.config.image_token_id).sum())
            if slots:
                raise ImageSlotError(
                    f"the prompts hold {slots} image slots but no pixel_values and image_sizes are given; "
                    "pass what the processor returned"
                )
        return cast(Tensor, self.embed_tokens(input_ids))


class Phi3VisionForConditionalGeneration(Phi3VisionPreTrainedModel, GenerationMixin):
    """Phi-3-Vision with its language head: pictures and text to text."""

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
        """Logits [B, T, vocabulary] and, with ``labels`` int64[B, T], the mean loss over labels that are not -100.

        ``pixel_values`` [N, crops + 1, 3, S, S] and ``image_sizes`` int64[N, 2] in batch order; rows may lack images.
        ``image_features`` [N, crops + 1, n, n, 4V], the tower's features of these crops, may stand for pixels, and
        ``trunk_states`` [B, T, D], hidden states before decoder layer ``first_layer``, for all that comes before it.
        Labels at image slots are left out of the loss whatever they hold. With ``skip_logits`` and labels the head runs
        only where a label is predicted: the same loss in memory that does not grow with T x vocabulary, ``logits`` is
        None; there, ``label_weights`` float[B, T] weigh the labels, and ``numbers`` float[B, T] (NaN where there
        is none) are what the number head, where there is one, is trained on.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            pixel_values=pixel_values,
            image_sizes=image_sizes,
            image_features=image_features,
            trunk_states=trunk_states,
            first_layer=first_layer,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        if labels is not None and input_ids is not None:
            labels = labels.masked_fill(slot_mask(input_ids, self.config.image_token_id), IGNORED)
        loss, logits = None, None
        if labels is not None and skip_logits:
            loss = labelled_loss(self, hidden, labels.to(hidden.device), label_weights, numbers, **kwargs)
        else:
            last = isinstance(logits_to_keep, int) and logits_to_keep
            keep = slice(-logits_to_keep, None) if last else logits_to_keep
            logits = self.lm_head(hidden if isinstance(keep, int) else hidden[:, keep])
            if labels is not None:
                loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
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
        """Inputs of the next step; the whole prefix, pictures included, when a row outgrows the short rotary factors.

        Keys cached under the short factors are of no use under the long ones, so the cache is made anew once.
        """
        if self._outgrows_short_factors(input_ids, attention_mask, next_sequence_length):
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

    def _outgrows_short_factors(self, input_ids: Tensor, mask: Tensor | None, new_tokens: int | None) -> bool:
        limit = self.config.original_length
        if limit is None or new_tokens is None or input_ids.shape[1] <= limit:
            return False
        lengths = mask.sum(-1) if mask is not None and mask.ndim == 2 else torch.tensor([input_ids.shape[1]])
        if self.config.rope_switch == "batch":
            lengths = lengths.max()[None]
        return bool(((lengths > limit) & (lengths - new_tokens <= limit)).any())

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
    """A static cache is emptied in place, since compiled code holds its address; another one is made anew."""
    if cache is not None and getattr(cache, "is_compileable", False):
        cache.reset()
        return cache
    return None
