"""The recipe's settings, every one with a sentence below it; read from files by core/recipe.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from phisight.core.dataset_folder import Split
from phisight.core.task import NOT_SHOWN, Task

Numbers = Literal["text", "digit_weighted", "expected", "head"]
"""Methods to learn and answer numbers."""
Dtype = Literal["auto", "float32", "bfloat16"]
"""Types of a model's weights in memory; auto: the checkpoint's own, or the one that was scored."""
Augmentation = Literal["flip", "crop", "color"]
"""Random changes of training images."""


class Settings(BaseModel):
    """Base of a group of settings: unknown keys are errors; words with commas between them are a list."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _lists_of_words(cls, values: Any) -> Any:
        """``flip,crop`` for a setting that is a list, as one writes it on a command line."""
        if not isinstance(values, dict):
            return values
        lists = {name for name, field in cls.model_fields.items() if get_origin(field.annotation) is list}
        words = {name: given for name, given in values.items() if name in lists and isinstance(given, str)}
        return {**values, **{name: [one.strip() for one in given.split(",")] for name, given in words.items()}}


class ModelSettings(Settings):
    """Which model."""

    name: str = "tiny"
    """``tiny`` (random weights), ``tiny-base`` (pretrained, comes with phisight), both for a CPU; a folder in the
    official layout, a hub name, or a run folder."""
    revision: str | None = None
    """Commit, branch or tag of a hub name; a run records the commit. None means the newest, or the run's own."""
    num_crops: int | None = Field(default=None, ge=1)
    """Most tiles of an image; None means that of the model's processor."""
    dtype: Dtype = "auto"
    """Type of the weights in memory; auto: the checkpoint's, float32 for tiny."""
    attention: Literal["sdpa", "eager", "flash_attention_2", "flex_attention"] = "sdpa"
    """Attention back end."""


class DataSettings(Settings):
    """Which examples."""

    path: Path = Path("data")
    """The data set folder."""
    images: int = Field(default=1, ge=1)
    """Most images of an example: rows with one key are one product and go together; 1: each row alone."""
    max_length: int | None = Field(default=None, ge=1)
    """Most tokens of an example, image tokens counted; None means the model's limit."""
    too_long: Literal["error", "leave_out"] = "error"
    """What happens to an example over the limit; text and images are never cut."""
    train_rows: int | None = Field(default=None, ge=1)
    """Train on the first rows only; None means all."""
    workers: int = Field(default=0, ge=0)
    """Processes that prepare images; 0: the training process does."""
    augment: list[Augmentation] = []
    """Random changes of the training images, new in every epoch, for few photos: ``flip`` sides, ``crop`` to a half of
    the area at least, ``color``; none where writing, sides or shades are what is asked for."""
    keep_pixels_gb: float = Field(default=1.0, ge=0)
    """Images kept in memory across epochs, as pixels, features or (to augment) decoded, at most so many GB; 0: none."""
    feature_cache_gb: float = Field(default=20.0, ge=0)
    """Most GB on disk for the features of a frozen tower, computed once per image; 0: computed in every step."""
    feature_cache: Path | None = None
    """Folder of those features, shared by runs; None means ``features`` beside the run folder."""
    trunk_cache_gb: float = Field(default=20.0, ge=0)
    """Most GB on disk for hidden states below ``train.from_layer``, computed once per example; 0: in every step."""


class AbstainSettings(Settings):
    """Images that show nothing of the task, learned with the answer that no field is shown."""

    share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training examples (of the pairs, under dpo) whose image is foreign to the task; 0: none."""
    images: Literal["drawn"] | Path = "drawn"
    """``drawn``, or a folder of such images: a data set folder (``phisight sample make --foreign``), or any other."""
    kinds: list[str] = []
    """Kinds of image that are drawn; none named: those that evaluation does not draw."""
    word: str = NOT_SHOWN
    """What an answer says of a field that is not shown; an optional field says its own word."""


class TrainSettings(Settings):
    """How the model is trained."""

    objective: Literal["sft", "dpo"] = "sft"
    """sft: learn the answers of the training rows; dpo: prefer the better answer of each pair (``preference``)."""
    method: Literal["full", "lora", "dora", "qlora", "projector"] = "lora"
    """full: every weight; lora: low-rank adapters; dora: adapters that also scale; qlora: adapters on weights of 4 bits
    (GPU); projector: image projection and separators only."""
    from_layer: int = Field(default=0, ge=0)
    """The first trainable decoder layer; the ones below, and the embeddings, are frozen. 0: all are trainable."""
    train_tower: bool = False
    """Whether the vision tower is trainable, too (always in a tiny model, whose tower starts from random weights)."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; None leaves it to ``epochs``."""
    epochs: float = Field(default=3.0, gt=0)
    """Passes over the training split, unless ``steps`` is given."""
    batch_size: int = Field(default=8, ge=1)
    """Examples a device and micro-batch."""
    accumulate: int = Field(default=1, ge=1)
    """Micro-batches an optimizer step."""
    packing: bool = False
    """Packing: examples of a micro-batch in one sequence without padding, each attending to itself alone."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate."""
    tower_learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate of the vision tower; None means ``learning_rate``."""
    projector_learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate of the image projection and separators; None means ``learning_rate``."""
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
    bf16: bool | Literal["auto"] = False
    """Compute in bfloat16 by autocast; auto: where the CPU or GPU has instructions for it, elsewhere in float32."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    compile: bool = False
    """Compile the model (torch.compile): a slow first step, faster ones after it."""
    liger: bool = False
    """Liger's fused kernels (GPU, ``pip install 'phisight[liger]'``)."""
    fused: Literal["auto", "on", "off"] = "auto"
    """Fused layers of phisight's own: less time and memory; auto: on a CPU, where that was measured."""
    return_freed_memory: bool = False
    """Return freed memory to the system at once (CPU, glibc): a smaller process, about 3 % slower."""
    fsdp: bool = False
    """Shard weights, gradients and optimizer over the processes of ``torchrun`` (FSDP2)."""
    numbers: Numbers = "head"
    """How numbers are learned and answered: ``text``, the digits; ``digit_weighted``, the first ones weigh more in the
    loss; ``expected``, the median of their probabilities; ``head``, one that predicts the logarithm beside the text."""
    abstain: AbstainSettings = AbstainSettings()
    """Foreign images among the examples, so that the model says when an image does not show what is asked."""
    log_every: int = Field(default=10, ge=1)
    """Steps between two lines of metrics."""
    evaluate_every: int | None = Field(default=None, ge=1)
    """Steps between two evaluations on the validation split; None means at the end."""
    answer_rows: int = Field(default=0, ge=0)
    """Rows of the validation split that are answered before the first step and at each evaluation; 0: none."""
    best: str = "loss"
    """What chooses the best checkpoint: ``loss``, or a figure of the answers (needs ``answer_rows``) by its name in
    scores.json or as field/metric: ``category_accuracy``, ``category3_code/accuracy``."""
    patience: int | None = Field(default=None, ge=1)
    """Evaluations without a better one after which training stops; None means never."""
    save_every: int | None = Field(default=None, ge=1)
    """Steps between two checkpoints; None means at each evaluation."""


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


class PreferenceSettings(Settings):
    """Direct preference optimization, where ``train.objective`` is dpo."""

    pairs: Path | None = None
    """JSONL file of pairs (``images``, ``prompt``, ``chosen``, ``rejected``), or a folder that holds pairs.jsonl."""
    beta: float = Field(default=0.1, gt=0)
    """Scale of the rewards: the larger, the nearer the model stays to the one before training."""
    anchor_weight: float = Field(default=1.0, ge=0)
    """Weight of the term by which the chosen answer may not become less likely than before training."""
    image_weight: float = Field(default=1.0, ge=0)
    """Weight of the term whose rejected side is the chosen answer under another product's image; 0: without it."""
    normalize: bool = False
    """Divide log-probabilities by the tokens of their answer."""


class EvaluateSettings(Settings):
    """How answers are made and scored."""

    split: Split = "test"
    """Split whose rows are answered."""
    rows: int | None = Field(default=None, ge=1)
    """Rows to answer; None means all."""
    other_image_rows: int | None = Field(default=None, ge=2)
    """Rows of these, a fixed sample, that are answered with other images, too, for the certificate; None means all."""
    batch_size: int = Field(default=16, ge=1)
    """Answers generated at once."""
    max_new_tokens: int = Field(default=96, ge=1)
    """Most tokens of an answer."""
    constrained: bool = False
    """Allow only answers of the template: categories of the training split, well-formed numbers."""
    coverage: float | None = Field(default=None, gt=0, lt=1)
    """Share of the rows whose true number an interval holds, fitted on the validation split; None means none."""
    foreign: Literal["drawn"] | Path | None = None
    """Images that show nothing of the task, answered too: ``drawn``, or a folder; None means drawn where answers may
    say that nothing is shown."""
    false_alarms: float = Field(default=0.01, gt=0, lt=0.5)
    """Share of the validation images that count as unlike the training images, and that are refused where answers may
    abstain."""


class TrackSettings(Settings):
    """Where figures go besides ``metrics.jsonl``."""

    to: list[Literal["wandb", "tensorboard", "mlflow", "trackio"]] = []
    """Trackers that get the figures; none unless named."""
    project: str = "phisight"
    """Project under which the run is filed."""
    entity: str | None = None
    """Team or user (W&B); None means the account's default."""
    mode: Literal["online", "offline"] = "offline"
    """offline: files that can be sent later (W&B)."""


class Recipe(Settings):
    """Everything a run needs."""

    out: Path = Path("runs/run")
    """The run folder."""
    seed: int = 0
    """Seed of everything that is drawn."""
    task: Task | None = None
    """Prompt, answer template and fields; None means the data set's own."""
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()
    lora: LoraSettings = LoraSettings()
    preference: PreferenceSettings = PreferenceSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    track: TrackSettings = TrackSettings()
    _task_changes: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def task_changes(self) -> dict[str, Any]:
        """Keys of the data set's own task that ``--set`` alone changes."""
        return self._task_changes
