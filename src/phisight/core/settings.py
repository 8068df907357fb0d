"""The recipe: every setting with a sentence below it, read from YAML and ``--set key=value``.

    recipe = load_recipe(Path("recipe.yaml"), ["train.learning_rate=1e-4"])

Every problem of a recipe is gathered and told at once; an unknown key comes with the nearest known one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from phisight.core.datadir import Split
from phisight.core.errors import SettingsError
from phisight.core.task import Task


class Settings(BaseModel):
    """Base of a group of settings: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")


AnySettings = TypeVar("AnySettings", bound=Settings)


class ModelSettings(Settings):
    """Which model."""

    name: str = "tiny"
    """``tiny`` (made anew, for a CPU), a folder in the official layout, or a hub name."""
    num_crops: int | None = Field(default=None, ge=1)
    """Most tiles of a picture; none: what the model's processor says."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the weights in memory; auto: the checkpoint's, float32 for tiny."""
    attention: Literal["sdpa", "eager", "flash_attention_2", "flex_attention"] = "sdpa"
    """Attention back end."""


class DataSettings(Settings):
    """Which examples."""

    path: Path = Path("data")
    """The data set folder."""
    max_length: int | None = Field(default=None, ge=1)
    """Most tokens of an example, image tokens counted; none: the model's limit."""
    too_long: Literal["error", "leave_out"] = "error"
    """What happens to an example over the limit; text and pictures are never cut."""
    train_rows: int | None = Field(default=None, ge=1)
    """Train on the first rows only; none: all."""
    workers: int = Field(default=0, ge=0)
    """Processes that prepare pictures; 0: the training process does."""
    keep_pixels_gb: float = Field(default=1.0, ge=0)
    """Prepared pictures kept in memory across epochs, at most this many GB; 0: none."""
    feature_cache_gb: float = Field(default=20.0, ge=0)
    """Most GB on disk for the features of a frozen tower, computed once per picture; 0: computed in every step."""
    feature_cache: Path | None = None
    """Folder of those features, shared by runs; none: ``features`` beside the run folder."""


class TrainSettings(Settings):
    """How weights move."""

    method: Literal["full", "lora", "projector"] = "lora"
    """full: every weight; lora: low-rank adapters; projector: image projection and separators only."""
    train_tower: bool = False
    """Whether the vision tower trains too (always in a tiny model, whose tower starts from nothing)."""
    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; none: ``epochs`` decides."""
    epochs: float = Field(default=3.0, gt=0)
    """Passes over the training split, unless ``steps`` is given."""
    batch_size: int = Field(default=8, ge=1)
    """Examples a device and micro-batch."""
    accumulate: int = Field(default=1, ge=1)
    """Micro-batches an optimiser step."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate."""
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    """Learning rate over the run, after the warm-up."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay, not on norms and biases."""
    adam_beta2: float = Field(default=0.999, gt=0, lt=1)
    """Second-moment decay of AdamW."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    bf16: bool = False
    """Compute in bfloat16 where that is safe (autocast)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    log_every: int = Field(default=10, ge=1)
    """Steps between two lines of metrics."""
    evaluate_every: int | None = Field(default=None, ge=1)
    """Steps between two losses on the validation split, from which the best checkpoint is chosen; none: at the end."""
    save_every: int | None = Field(default=None, ge=1)
    """Steps between two checkpoints; none: with each evaluation."""


class LoraSettings(Settings):
    """Low-rank adapters."""

    rank: int = Field(default=16, ge=1)
    """Rank of the update."""
    alpha: float = Field(default=32, gt=0)
    """Scale of the update, divided by the rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the adapters."""
    targets: list[str] = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj", "img_projection"]
    """Official names of the layers that get adapters; one that matches nothing is an error."""


class EvaluateSettings(Settings):
    """How answers are made and scored."""

    split: Split = "test"
    """Split whose rows are answered."""
    rows: int | None = Field(default=None, ge=1)
    """Rows to answer; none: all."""
    batch_size: int = Field(default=16, ge=1)
    """Answers generated at once."""
    max_new_tokens: int = Field(default=96, ge=1)
    """Most tokens of an answer."""


class TrackSettings(Settings):
    """Where figures go besides ``metrics.jsonl``."""

    to: list[Literal["wandb", "tensorboard", "mlflow", "trackio"]] = []
    """Trackers to feed; none are fed unless named."""
    project: str = "phisight"
    """Project under which the run is filed."""
    entity: str | None = None
    """Team or user (W&B); none: the account's default."""
    mode: Literal["online", "offline"] = "offline"
    """offline: files that can be sent later (W&B)."""


class Recipe(Settings):
    """Everything a run needs."""

    out: Path = Path("runs/run")
    """The run folder."""
    seed: int = 0
    """Seed of everything that is drawn."""
    task: Task | None = None
    """Prompt, answer template and fields; none: the data set's own."""
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()
    lora: LoraSettings = LoraSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    track: TrackSettings = TrackSettings()


def load_recipe(path: Path | None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply ``key=value`` overrides; SettingsError tells every problem at once."""
    return recipe_from(_read_yaml(path) if path is not None else {}, overrides, source=str(path or "the command line"))


def recipe_from(values: Mapping[str, Any], overrides: Sequence[str] = (), *, source: str = "the recipe") -> Recipe:
    """A recipe from nested values; see ``load_recipe``."""
    merged = _deep_copy(values)
    for override in overrides:
        _apply(merged, override)
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        problems = "; ".join(_explain(one) for one in error.errors())
        raise SettingsError(f"{source}: {problems}") from None


def changed(settings: AnySettings, **changes: Any) -> AnySettings:
    """A copy with some settings replaced; none leaves one as it is. SettingsError tells every problem."""
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return type(settings).model_validate({**settings.model_dump(), **given})
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(one) for one in error.errors())) from None


def write_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def known_keys() -> list[str]:
    """Every setting as a dotted key."""
    return list(_keys(Recipe))


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            yield from _keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"there is no recipe {path}; recipes/ holds some to start from") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(values or {}, dict):
        raise SettingsError(f"{path} holds a {type(values).__name__}, not settings (key: value)")
    return cast(dict[str, Any], values or {})


def _deep_copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _deep_copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SettingsError(f"--set {override!r} is no key=value, as in --set train.learning_rate=1e-4")
    *groups, last = key.strip().split(".")
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            raise SettingsError(f"--set {key}: {group!r} holds a value, not settings")
    values[last] = _scalar(text)


def _scalar(text: str) -> Any:
    value = yaml.safe_load(text) if text.strip() else None
    if isinstance(value, str):
        try:
            return float(value)  # YAML reads 1e-4 as text
        except ValueError:
            return value
    return value


def _explain(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        nearest = _nearest(key)
        return f"unknown setting {key!r}" + (f", did you mean {nearest!r}?" if nearest else "")
    return f"{key} = {str(error.get('input'))[:40]!r}: {error['msg']}"


def _nearest(key: str) -> str | None:
    """The known setting (or group of settings) that was probably meant."""
    known = known_keys()
    groups = sorted({name.split(".")[0] for name in known})
    for candidates in (groups if "." not in key else [], known):
        near = difflib.get_close_matches(key, candidates, n=1, cutoff=0.6)
        if near:
            return near[0]
    last = {name.rsplit(".", 1)[-1]: name for name in known}
    near = difflib.get_close_matches(key.rsplit(".", 1)[-1], list(last), n=1)
    return last[near[0]] if near else None
