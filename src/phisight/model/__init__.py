"""Phi-3-Vision and Phi-3.5-Vision, registered with the library's Auto classes.

configuration -> image_processing -> processing                   images and text to tensors
configuration -> placeholders, rope, vision -> modeling -> loss   tensors to logits and loss
checkpoint                                                        the official layout, strictly
tiny                                                              the same classes in small, trained in minutes
"""

from __future__ import annotations

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from phisight.model.configuration import Phi3VConfig
from phisight.model.image_processing import Phi3VImageProcessor
from phisight.model.modeling import Phi3VisionForConditionalGeneration, Phi3VisionModel
from phisight.model.processing import Phi3VProcessor

__all__ = [
    "Phi3VConfig",
    "Phi3VImageProcessor",
    "Phi3VProcessor",
    "Phi3VisionForConditionalGeneration",
    "Phi3VisionModel",
    "register",
]


def register() -> None:
    """Make the Auto classes know ``phi3_v``; safe to call again."""
    AutoConfig.register(Phi3VConfig.model_type, Phi3VConfig, exist_ok=True)
    AutoTokenizer.register(Phi3VConfig, fast_tokenizer_class=PreTrainedTokenizerFast, exist_ok=True)
    backends = dict.fromkeys(("pil", "torchvision"), Phi3VImageProcessor)
    AutoImageProcessor.register(Phi3VConfig, image_processor_classes=backends, exist_ok=True)
    AutoProcessor.register(Phi3VConfig, Phi3VProcessor, exist_ok=True)
    AutoModelForImageTextToText.register(Phi3VConfig, Phi3VisionForConditionalGeneration, exist_ok=True)
    AutoModelForCausalLM.register(Phi3VConfig, Phi3VisionForConditionalGeneration, exist_ok=True)


register()
