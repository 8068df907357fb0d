"""Registers phi3_v with transformers' Auto classes as soon as both are imported.

Parts of phisight that need no model (data, samples, reports, ``--help``) start without torch, so ``import phisight``
must not load it. If transformers is there already, registration happens at once, otherwise after its first import.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

LIBRARY = "transformers"


def register_with_transformers() -> None:
    """Register now if transformers is imported, or when it will be."""
    if LIBRARY in sys.modules:
        importlib.import_module("phisight.model")
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Stands in for one import: hands transformers to its own loader and registers afterwards."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname != LIBRARY:
            return None
        # Asking whether the library is installed is no import: this finder stays until one happens.
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader)
        return spec


class _RegisteringLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
        importlib.import_module("phisight.model")
