"""One field of a task: its kind with its options, and what it is where there is no value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from phisight.core.errors import EmptyFieldError, TaskError, nearest, some
from phisight.core.kinds.automata import Choice, Either, Part
from phisight.core.kinds.kind import FieldOptions, FieldValue, Kind, Known
from phisight.core.kinds.registry import KINDS

_ALWAYS_WRITTEN = ("kind", "decimals")
"""Options that a card names also where they are as they were; those that came later it names where they are not."""
_OPTIONS_OF = {"of": "list", "separator": "list", "absent": "optional"}


class TaskField(FieldOptions):
    """One field of the answer; its name is a column of the table. ``phisight.core.kinds`` knows each kind."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and isinstance(values.get("kind"), str):
            return {**field_of(values["kind"]), **{name: value for name, value in values.items() if name != "kind"}}
        return values

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        sign = self.separator.strip()
        if len(sign) != 1 or not sign.isascii() or sign.isalnum() or not sign.isprintable():
            raise TaskError(f"the separator {self.separator!r} must be one sign, such as '; ' or '|'")
        if self.absent != " ".join(self.absent.split()) or not self.absent:
            raise TaskError(f"{self.absent!r} cannot stand for no value; name a word, such as 'none'")
        for option, needed in _OPTIONS_OF.items():
            is_default = getattr(self, option) == type(self).model_fields[option].default
            if not is_default and not (self.may_be_absent if needed == "optional" else self.kind == needed):
                owner = "an optional field (KIND?) or one with abstain" if needed == "optional" else f"a {needed}"
                raise TaskError(
                    f"{option} = {getattr(self, option)!r} is an option of {owner}, not of this {self.kind}"
                )
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        defaults = {name: info.default for name, info in type(self).model_fields.items()}
        written: dict[str, Any] = handler(self)
        return {key: value for key, value in written.items() if key in _ALWAYS_WRITTEN or value != defaults[key]}

    @property
    def may_be_absent(self) -> bool:
        """Whether an answer may be without a value."""
        return self.optional or self.abstain

    @property
    def rules(self) -> Kind:
        """What there is to know of its kind."""
        return KINDS[self.kind]

    @property
    def short(self) -> str:
        """The field as ``--field NAME:...`` says it: ``number?:2``, ``list:category``."""
        more = [str(self.decimals)] if self.decimals is not None else ["category"] if self.of == "category" else []
        return ":".join([self.kind + ("?" if self.optional else ""), *more])

    def typed(self, value: Any) -> FieldValue:
        """The value of a cell, None where an optional field has none or an answer may say that it is not shown.

        Raises:
            EmptyFieldError: The cell is empty, and the field is not optional.
            ValueError: It holds something else than it should.
        """
        if isinstance(value, list | tuple):
            empty = not any(one is not None and str(one).strip() for one in value)
        else:
            empty = value is None or (isinstance(value, float) and math.isnan(value)) or not str(value).strip()
        if empty and not self.optional:
            raise EmptyFieldError("is empty; fill it, leave the row out, or make the field optional (KIND?)")
        if not self.may_be_absent:
            return self.rules.typed(value, self)
        if empty or self.is_absent(str(value).strip()):
            return None
        found = self.rules.typed(value, self)
        return None if self.is_absent(self.rules.write(found, self)) else found

    def write(self, value: FieldValue) -> str:
        """The value as it stands in an answer."""
        return self.absent if value is None else self.rules.write(value, self)

    def parse(self, text: str) -> FieldValue:
        """The value of a text; ValueError says what it is not."""
        return None if self.is_absent(text) else self.rules.parse(text, self)

    def part(self, known: Known) -> Part:
        """The texts that it may have in an answer."""
        part = self.rules.part(known, self)
        return Either(Choice([self.absent]), part) if self.may_be_absent else part

    def is_absent(self, text: str) -> bool:
        """Whether a text says that there is no value."""
        return self.may_be_absent and text.casefold() == self.absent.casefold()


def field_of(text: str) -> dict[str, Any]:
    """The options of a field from its short form: ``number``, ``number?``, ``number:2``, ``list:category?``.

    TaskError names the nearest kind where there is none of that name.
    """
    kind, *more = text.replace("?", "").split(":")
    found: dict[str, Any] = {"kind": kind, **({"optional": True} if "?" in text else {})}
    if kind not in KINDS:
        near = nearest(kind, KINDS)
        raise TaskError(
            f"{text!r} is no kind of field{f', did you mean {near!r}?' if near else ';'} kinds are {some(KINDS, 20)}"
        )
    if kind == "number" and len(more) == 1 and more[0].isdigit():
        return {**found, "decimals": int(more[0])}
    if kind == "list" and more and more[0] in ("text", "category") and len(more) == 1:
        return {**found, "of": more[0]}
    if more:
        raise TaskError(f"{text!r} is no kind of field: only number:DECIMALS and list:category take more than a name")
    return found
