"""Fine-tune Phi-3-Vision on a table of images and fields, and prove that the result looks at the image.

Typed fields in three lines::

    import phisight
    model = phisight.load("runs/products")            # a run, an export, adapters, or a hub name
    model.extract("photo.jpg")                        # {"title": "...", "category": "...", "price": 470.0}

After ``import phisight`` the Auto classes of transformers know Phi-3-Vision::

    from transformers import AutoModelForImageTextToText, AutoProcessor
    model = AutoModelForImageTextToText.from_pretrained("microsoft/Phi-3.5-vision-instruct")

The import itself loads neither transformers nor torch: see ``phisight.registration``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from phisight import registration

if TYPE_CHECKING:
    from phisight.api import build_dataset, evaluate_model, load, train_model
    from phisight.core.errors import PhisightError
    from phisight.extraction.answer import Answer
    from phisight.extraction.extractor import Extractor
    from phisight.workflows.export import export_model

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "Extractor",
    "PhisightError",
    "__version__",
    "build_dataset",
    "evaluate_model",
    "export_model",
    "load",
    "train_model",
]

_HOMES = {
    "Answer": "phisight.extraction.answer",
    "Extractor": "phisight.extraction.extractor",
    "PhisightError": "phisight.core.errors",
    "export_model": "phisight.workflows.export",
}
"""Public names that are defined elsewhere than in ``phisight.api``."""

registration.register_with_transformers()


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'phisight' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES.get(name, "phisight.api")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
