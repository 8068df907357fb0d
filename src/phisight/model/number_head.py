"""A head that predicts the numbers of an answer, beside the text.

    hidden state [D] that a number's first digit is predicted from -> Linear, GELU, Linear -> one value per number field
      value * spread + centre  = logarithm of the number (the number itself where some of them are not positive)
      -> the nearest number of the training rows

The head is attached to the model as ``number_head`` while it trains. It is not part of the official layout: it is saved
to a file of its own, ``number_head.safetensors``, which other programs ignore.

Shapes: B batch, T text position, D decoder width, K number fields, A answers of a batch
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from phisight.core.errors import CheckpointError, some
from phisight.core.run_folder import atomic_file
from phisight.model.loss import IGNORED

NUMBER_HEAD = "number_head.safetensors"
"""Name of the file beside a checkpoint."""
ATTRIBUTE = "number_head"
"""Name of the head on the model."""
FORMAT = "phisight-number-head/1"
MOST_KNOWN = 4096
"""Limit of known numbers per field; of more, evenly spaced quantiles are stored."""


class NumberHead(nn.Module):
    """Numbers of one or more fields from hidden states; float32 whatever the model computes in.

    Args:
        width: D, the width of the hidden states.
        fields: Names of the number fields, in the order of the answer.
        known: For each field its distinct training numbers, float64[G], ascending.
        centre, spread: Median and standard deviation of each field's (logarithms of) training numbers, float32[K].
        logarithmic: Whether a field is predicted on the logarithm, bool[K].
    """

    centre: Tensor
    spread: Tensor
    logarithmic: Tensor

    def __init__(
        self,
        width: int,
        fields: Sequence[str],
        known: Sequence[Tensor],
        centre: Tensor,
        spread: Tensor,
        logarithmic: Tensor,
    ) -> None:
        super().__init__()
        self.fields = list(fields)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, len(self.fields))
        nn.init.zeros_(self.outer.weight)  # the first answer is the training rows' middle
        nn.init.zeros_(self.outer.bias)
        self.register_buffer("centre", centre.float())
        self.register_buffer("spread", spread.float())
        self.register_buffer("logarithmic", logarithmic.bool())
        for index, numbers in enumerate(known):
            self.register_buffer(f"known_{index}", numbers.double())

    @classmethod
    def fit(cls, width: int, numbers: Mapping[str, Sequence[float]]) -> NumberHead:
        """A new head scaled to the numbers of the training rows, field by field."""
        known, middles, spreads, logs = [], [], [], []
        for values in numbers.values():
            column = torch.tensor(list(values), dtype=torch.float64)
            logarithmic = bool((column > 0).all())
            scaled = column.log() if logarithmic else column
            spread = float(scaled.std(correction=0))
            known.append(_thinned(torch.unique(column)))
            middles.append(float(scaled.median()))
            spreads.append(spread if spread > 0 else 1.0)
            logs.append(logarithmic)
        return cls(width, list(numbers), known, torch.tensor(middles), torch.tensor(spreads), torch.tensor(logs))

    def known(self, field: int) -> Tensor:
        """float64[G]: distinct numbers of the training rows in a field, ascending."""
        return self.get_buffer(f"known_{field}")

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states [n, D] to values float32[n, K] on the standardized scale."""
        with torch.autocast(hidden.device.type, enabled=False):
            inner: Tensor = nn.functional.gelu(self.inner(hidden.to(self.inner.weight.dtype)))
            values: Tensor = self.outer(inner)
            return values

    def standardize(self, numbers: Tensor, fields: Tensor) -> Tensor:
        """Numbers [n] of fields int64[n] on the scale of ``forward``, in its dtype."""
        least = torch.stack([self.known(index)[0] for index in range(len(self.fields))])
        logarithmic = self.logarithmic[fields]
        positive = numbers.double().clamp(min=torch.where(logarithmic, least[fields], -torch.inf))
        scaled = torch.where(logarithmic, positive.clamp(min=1e-300).log(), positive)
        return ((scaled - self.centre[fields]) / self.spread[fields]).to(self.inner.weight.dtype)

    def numbers(self, hidden: Tensor, fields: Sequence[int]) -> Tensor:
        """Hidden states [n, D] before numbers of ``fields`` to numbers float64[n] of the training rows."""
        found = hidden.new_empty(len(fields), dtype=torch.float64)
        for row, (field, values) in enumerate(zip(fields, self(hidden), strict=True)):
            scaled = values[field].double() * self.spread[field] + self.centre[field]
            known = self.known(field)
            grid = known.log() if bool(self.logarithmic[field]) else known
            found[row] = known[(scaled - grid).abs().argmin()]
        return found

    def loss(self, hidden: Tensor, labels: Tensor, numbers: Tensor, num_items: Tensor | int | None) -> Tensor:
        """Mean absolute error on the standardized scale, to be added to the text's loss.

        Absolute, since the median is wanted, not the mean. An answer's error counts once per trained token of it, so
        the divisor of the text's loss, the trained tokens of the whole step, is the divisor here, too.

        Args:
            hidden: [B, T, D], after the final norm.
            labels: int64[B, T]; a row may hold several answers (packing).
            numbers: float[B, T]: a number at the position that its first digit is predicted from, NaN elsewhere;
                in each answer one per field, in the order of the fields; infinite where a field has no value, which
                is no target.
            num_items: Trained tokens of the whole step; None means those of ``labels``.
        """
        answer, tokens = answer_index(labels)
        held = ~numbers.isnan()
        count = len(self.fields)
        if int(held.sum()) != count * len(tokens):
            raise CheckpointError(f"{int(held.sum())} numbers for {len(tokens)} answers with {count} each in the batch")
        fields = torch.arange(count, device=labels.device).repeat(len(tokens))
        values = self(hidden[held]).gather(-1, fields[:, None])[:, 0]
        targets = numbers[held]
        known = targets.isfinite()
        scaled = self.standardize(torch.where(known, targets, torch.ones_like(targets)), fields)
        gaps = torch.where(known, (values - scaled).abs(), torch.zeros_like(scaled)) / count
        every = tokens.sum() if num_items is None else num_items
        loss: Tensor = (gaps * tokens[answer[held]]).sum() / every
        return loss


def answer_index(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Index int64[B, T] of the answer that a position belongs to, from the last token of its prompt on, and the trained
    tokens int64[A] of each answer.
    """
    trained = labels != IGNORED
    starts = torch.zeros_like(trained)
    starts[:, :-1] = trained[:, 1:] & ~trained[:, :-1]
    answer = starts.flatten().long().cumsum(0).reshape(labels.shape) - 1
    counts: Tensor = torch.bincount(answer[trained], minlength=int(starts.sum()))
    return answer, counts


def load_number_head(folder: Path) -> NumberHead | None:
    """The head saved in a folder, None where there is none; CheckpointError when the file is not a number head."""
    path = folder / NUMBER_HEAD
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read ({error}); copy the checkpoint again") from error
    missing = [name for name in ("inner.weight", "centre", "spread", "logarithmic") if name not in values]
    if about.get("format") != FORMAT or missing:
        raise CheckpointError(
            f"{path} is not a number head: format {about.get('format')!r}, {FORMAT!r} wanted; missing {some(missing)}"
        )
    try:
        fields = json.loads(about["fields"])
        known = [values[f"known_{index}"] for index in range(len(fields))]
        head = NumberHead(
            values["inner.weight"].shape[1], fields, known, values["centre"], values["spread"], values["logarithmic"]
        )
        head.load_state_dict(values, strict=True)
    except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path} is a damaged number head ({reason}); copy the checkpoint again") from error
    return head


def head_owner(model: Any) -> Any:
    """The module with the ``number_head`` attribute: the model inside adapters and other wrappers."""
    found = _head_owner(model)
    if found is None:
        raise CheckpointError(f"{type(model).__name__} has no number_head attribute; choose another train.numbers")
    return found


def _head_owner(model: Any) -> Any:
    # Wrappers forward attribute access, so only a module's own names count.
    return next((one for one in model.modules() if ATTRIBUTE in vars(one) or ATTRIBUTE in one._modules), None)


def head_of(model: Any) -> NumberHead | None:
    """The head attached to a model, or None."""
    return getattr(_head_owner(model), ATTRIBUTE, None)


def attach_head(model: Any, head: NumberHead | None) -> None:
    """Attach a head to a model, on its device; None detaches the one that is there."""
    if head is not None:
        setattr(head_owner(model), ATTRIBUTE, head.to(next(model.parameters()).device))
    elif head_of(model) is not None:
        setattr(head_owner(model), ATTRIBUTE, None)


@contextmanager
def detached_head(model: Any) -> Iterator[NumberHead | None]:
    """The model without its head, as the official layout has it; attached again afterwards."""
    head = head_of(model)
    attach_head(model, None)
    try:
        yield head
    finally:
        attach_head(model, head)


@contextmanager
def restoring_head(model: Any, folder: Path) -> Iterator[None]:
    """Inside, the model is loaded from a checkpoint without its head; afterwards the head is loaded from there, too."""
    with detached_head(model) as head:
        yield
    if head is not None:
        stored = load_number_head(folder)
        if stored is None:
            raise CheckpointError(f"{folder} has no {NUMBER_HEAD}, which train.numbers=head needs; start the run again")
        # Full tensors are distributed to a head that may be sharded.
        set_model_state_dict(head, stored.state_dict(), options=StateDictOptions(full_state_dict=True, strict=True))


def save_head(model: Any, folder: Path, values: Mapping[str, Tensor] | None = None) -> None:
    """Write ``number_head.safetensors`` atomically; for a model without a head, delete an older file.

    ``values`` are the full tensors of a head that is sharded.
    """
    head = head_of(model)
    if head is None:
        (folder / NUMBER_HEAD).unlink(missing_ok=True)
        return
    held = {name: value.detach().cpu().contiguous() for name, value in (values or head.state_dict()).items()}
    with atomic_file(folder / NUMBER_HEAD) as file:
        file.write(save(held, {"format": FORMAT, "fields": json.dumps(head.fields)}))


def save_beside(model: Any, save_pretrained: Callable[..., None], folder: Path, *args: Any, **kwargs: Any) -> None:
    """Call the library's ``save_pretrained`` for the model without its head, and save the head beside it."""
    state, values = kwargs.pop("state_dict", None), None
    if state is not None:
        state, values = split_head_state(state)
    with detached_head(model):
        save_pretrained(folder, *args, state_dict=state, **kwargs)
    if kwargs.get("is_main_process", True):
        save_head(model, folder, values)


def split_head_state(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a state dict: tensors of the model, and those of the head under the head's own names."""
    others = {name: value for name, value in state.items() if f"{ATTRIBUTE}." not in name}
    own = {name.rpartition(f"{ATTRIBUTE}.")[2]: value for name, value in state.items() if name not in others}
    return others, own


def _thinned(values: Tensor) -> Tensor:
    if len(values) <= MOST_KNOWN:
        return values
    return values[torch.linspace(0, len(values) - 1, MOST_KNOWN).round().long()]
