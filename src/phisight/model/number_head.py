"""A head that predicts the numbers of an answer, beside the text.

    hidden state [D] that a number's first digit is predicted from -> layer, GELU -> one value a number field
      value * spread + centre  = logarithm of the number (the number itself where some of them are not positive)
      -> the nearest number that stands in the training rows

The head hangs on the model as ``number_head`` while it trains. It is no part of the official layout: it is stored in a
file of its own, ``number_head.safetensors``, which other programs leave alone.
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
from phisight.model.labels import IGNORED

NUMBER_HEAD = "number_head.safetensors"
"""Name of the file beside a checkpoint."""
ATTRIBUTE = "number_head"
"""Name of the head on the model."""
FORMAT = "phisight-number-head/1"
MOST_KNOWN = 4096
"""Known numbers of a field at most; of more, evenly spaced quantiles."""


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
        for place, numbers in enumerate(known):
            self.register_buffer(f"known_{place}", numbers.double())

    @classmethod
    def fit(cls, width: int, numbers: Mapping[str, Sequence[float]]) -> NumberHead:
        """A new head whose scale is that of the training rows' numbers, field by field."""
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

    def known(self, place: int) -> Tensor:
        """float64[G]: numbers that the training rows hold in a field, ascending."""
        return self.get_buffer(f"known_{place}")

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states [n, D] to values float32[n, K] on the standardised scale."""
        with torch.autocast(hidden.device.type, enabled=False):
            inner: Tensor = nn.functional.gelu(self.inner(hidden.to(self.inner.weight.dtype)))
            values: Tensor = self.outer(inner)
            return values

    def standardised(self, numbers: Tensor, fields: Tensor) -> Tensor:
        """Numbers [n] of fields int64[n] on the scale of ``forward``, in its dtype."""
        least = torch.stack([self.known(place)[0] for place in range(len(self.fields))])
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
        """Mean absolute error on the standardised scale, to be added to the text's loss.

        Absolute, since the median is wanted, not the mean. An answer's error counts once for each of its trained
        tokens, so dividing by the trained tokens of the whole step is right here too, over micro-batches and ranks.

        Args:
            hidden: [B, T, D], after the final norm.
            labels: int64[B, T]; several answers may stand in one row (packing).
            numbers: float[B, T]: a number at the place that its first digit is predicted from, NaN elsewhere; in each
                answer one for each field, in the order of the fields.
            num_items: Trained tokens of the whole step; none: those of ``labels``.
        """
        answer, tokens = answers_of(labels)
        held = ~numbers.isnan()
        count = len(self.fields)
        if int(held.sum()) != count * len(tokens):
            raise CheckpointError(f"{int(held.sum())} numbers for {len(tokens)} answers with {count} each in the batch")
        fields = torch.arange(count, device=labels.device).repeat(len(tokens))
        values = self(hidden[held]).gather(-1, fields[:, None])[:, 0]
        gaps = (values - self.standardised(numbers[held], fields)).abs() / count
        every = tokens.sum() if num_items is None else num_items
        loss: Tensor = (gaps * tokens[answer[held]]).sum() / every
        return loss


def answers_of(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of labels int64[B, T]: the answer int64[B, T] that a place belongs to, from the last token of its prompt on, and
    the trained tokens int64[answers] of each.
    """
    trained = labels != IGNORED
    starts = torch.zeros_like(trained)
    starts[:, :-1] = trained[:, 1:] & ~trained[:, :-1]
    answer = starts.flatten().long().cumsum(0).reshape(labels.shape) - 1
    counts: Tensor = torch.bincount(answer[trained], minlength=int(starts.sum()))
    return answer, counts


def load_number_head(folder: Path) -> NumberHead | None:
    """The head stored in a folder, none where there is none; CheckpointError when the file is not one."""
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
            f"{path} is no number head: format {about.get('format')!r}, {FORMAT!r} wanted; missing {some(missing)}"
        )
    fields = json.loads(about["fields"])
    known = [values[f"known_{place}"] for place in range(len(fields))]
    head = NumberHead(
        values["inner.weight"].shape[1], fields, known, values["centre"], values["spread"], values["logarithmic"]
    )
    head.load_state_dict(values, strict=True)
    return head


def bearer(model: Any) -> Any:
    """The module that has a place for the head: the model within adapters and other wrapping."""
    found = _bearer(model)
    if found is None:
        raise CheckpointError(f"{type(model).__name__} has no place for a number head; choose another train.numbers")
    return found


def _bearer(model: Any) -> Any:
    # Wrappers pass the name on, so the module's own names are looked at.
    return next((one for one in model.modules() if ATTRIBUTE in vars(one) or ATTRIBUTE in one._modules), None)


def head_of(model: Any) -> NumberHead | None:
    """The head that hangs on a model, if there is one."""
    return getattr(_bearer(model), ATTRIBUTE, None)


def attach_head(model: Any, head: NumberHead | None) -> None:
    """Hang a head on a model, on its device; none: take off the one that is there."""
    if head is not None:
        setattr(bearer(model), ATTRIBUTE, head.to(next(model.parameters()).device))
    elif head_of(model) is not None:
        setattr(bearer(model), ATTRIBUTE, None)


@contextmanager
def taken_off(model: Any) -> Iterator[NumberHead | None]:
    """The model without its head, as the official layout has it; the head is back afterwards."""
    head = head_of(model)
    attach_head(model, None)
    try:
        yield head
    finally:
        attach_head(model, head)


@contextmanager
def reloaded(model: Any, folder: Path) -> Iterator[None]:
    """Within it the model is loaded from a checkpoint without a head; then the head takes its values from there."""
    with taken_off(model) as head:
        yield
    if head is not None:
        stored = load_number_head(folder)
        if stored is None:
            raise CheckpointError(f"{folder} has no {NUMBER_HEAD}, which train.numbers=head needs; start the run anew")
        # Whole tensors go into a head that may lie in shards over processes.
        set_model_state_dict(head, stored.state_dict(), options=StateDictOptions(full_state_dict=True, strict=True))


def save_head(model: Any, folder: Path, values: Mapping[str, Tensor] | None = None) -> None:
    """Write ``number_head.safetensors`` where the model bears a head, whole or not at all; of a model without one, an
    older file goes. ``values``: the head's tensors where its own are spread over processes.
    """
    head = head_of(model)
    if head is None:
        (folder / NUMBER_HEAD).unlink(missing_ok=True)
        return
    held = {name: value.detach().cpu().contiguous() for name, value in (values or head.state_dict()).items()}
    with atomic_file(folder / NUMBER_HEAD) as file:
        file.write(save(held, {"format": FORMAT, "fields": json.dumps(head.fields)}))


def save_beside(model: Any, save_pretrained: Callable[..., None], folder: Path, *args: Any, **kwargs: Any) -> None:
    """Call the library's ``save_pretrained`` for the model without its head, and write the head beside."""
    state, values = kwargs.pop("state_dict", None), None
    if state is not None:
        state, values = split_off(state)
    with taken_off(model):
        save_pretrained(folder, *args, state_dict=state, **kwargs)
    if kwargs.get("is_main_process", True):
        save_head(model, folder, values)


def split_off(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A state dict in two: the model's tensors, and the head's under the head's own names."""
    others = {name: value for name, value in state.items() if f"{ATTRIBUTE}." not in name}
    own = {name.rpartition(f"{ATTRIBUTE}.")[2]: value for name, value in state.items() if name not in others}
    return others, own


def _thinned(values: Tensor) -> Tensor:
    if len(values) <= MOST_KNOWN:
        return values
    return values[torch.linspace(0, len(values) - 1, MOST_KNOWN).round().long()]
