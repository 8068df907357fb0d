"""Trackers by name: each is imported only when it is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, cast

from phisight.core.errors import MissingExtraError, SettingsError, nearest, some
from phisight.track.jsonl import JsonlTracker
from phisight.track.tracker import CompositeTracker, Tracker

_ADAPTERS = {
    "wandb": ("phisight.track.wandb_tracker", "WandbTracker"),
    "tensorboard": ("phisight.track.tensorboard_tracker", "TensorboardTracker"),
    "mlflow": ("phisight.track.mlflow_tracker", "MlflowTracker"),
    "trackio": ("phisight.track.trackio_tracker", "TrackioTracker"),
}
TRACKERS = tuple(_ADAPTERS)
"""Names that can be asked for; JSONL, which training always has, has none."""


def open_tracker(
    names: Sequence[str] = (), options: Mapping[str, Mapping[str, Any]] | None = None, *, local: bool = True
) -> CompositeTracker:
    """JSONL and the trackers named, as one.

    Args:
        names: Any of TRACKERS; each is imported only when it is named.
        options: Settings by tracker name, e.g. ``{"wandb": {"mode": "online", "project": "shop"}}``; see the adapters.
        local: Whether JSONL is one of them.

    Raises:
        SettingsError: An unknown tracker or setting (the nearest name is suggested).
        MissingExtraError: A tracker whose package is not installed.
    """
    options = options or {}
    unknown = [name for name in [*names, *options] if name not in _ADAPTERS]
    if unknown:
        raise SettingsError(f"no tracker is called {unknown[0]!r}{_suggestion(unknown[0], TRACKERS)}")
    return CompositeTracker(
        JsonlTracker() if local else None, {name: _open(name, options.get(name, {})) for name in names}
    )


def _open(name: str, options: Mapping[str, Any]) -> Tracker:
    module, kind = _ADAPTERS[name]
    try:
        adapter = getattr(import_module(module), kind)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("phisight"):
            raise
        raise MissingExtraError(f"the tracker {name}", name) from error
    known = list(inspect.signature(adapter).parameters)
    wrong = [option for option in options if option not in known]
    if wrong:
        raise SettingsError(f"the tracker {name} has no setting {wrong[0]!r}{_suggestion(wrong[0], known)}")
    return cast(Tracker, adapter(**options))


def _suggestion(name: str, known: Sequence[str]) -> str:
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else f"; there are {some(known, 20)}"
