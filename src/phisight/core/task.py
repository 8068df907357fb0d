"""The task: what is asked of an image, and how the answer is written and read back.

    row  --render-->  "Product: Check Scarf, Category: SCARVES, Full Price: 470.0"  --parse-->  typed fields

One object writes the training answer, parses a generated one and, through the kinds of its fields, chooses the
metrics. Reading back what was written gives the same fields; a row for which that fails is rejected when it is written.
An optional field without a value is written as a fixed word (``none``), which is read as no value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from phisight.core.errors import EmptyFieldError, TaskError, some
from phisight.core.kinds import FieldValue, Known
from phisight.core.task_field import TaskField, field_of

__all__ = ["FieldValue", "ParsedAnswer", "Task", "TaskField", "checked_prompt", "special_tokens_in"]

NOT_SHOWN = "not shown"
"""What an answer says of a field that the image does not show, unless the recipe says another word."""
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_SPECIAL = re.compile(
    r"<\|[^\s<>|]{1,40}\|>|</?s>|<unk>|<pad>|<mask>|<bos>|<eos>|<image>|</?(?:img|box|ref)>|\[/?INST\]"
)
_LEADING_IMAGE = re.compile(r"\A\s*<\|image_1\|>[ \t]*\n?")


@dataclass(frozen=True)
class ParsedAnswer:
    """Fields read from an answer, or the reason why they could not be read."""

    values: dict[str, FieldValue] | None
    reason: str | None = None


class Task(BaseModel):
    """Prompt, answer template and typed fields. The default is the prompt of the original study."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field(default="What is shown in this image?", description="The question put to every image.")
    answer: str = Field(
        default="Product: {title}, Category: {category3_code}, Full Price: {full_price}",
        description="Template of the answer; each {name} is a field.",
    )
    fields: dict[str, TaskField] = Field(
        default_factory=lambda: {
            "title": TaskField(kind="text"),
            "category3_code": TaskField(kind="category"),
            "full_price": TaskField(kind="number"),
        },
        description="The fields of the answer by column name; a bare kind is enough (price: number).",
    )

    @field_validator("fields", mode="before")
    @classmethod
    def _bare_kinds(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping):
            return fields
        return {name: field_of(kind) if isinstance(kind, str) else kind for name, kind in fields.items()}

    @field_validator("prompt")
    @classmethod
    def _plain_prompt(cls, prompt: str) -> str:
        return checked_prompt(prompt)

    @model_validator(mode="after")
    def _template_fits_fields(self) -> Self:
        names = _PLACEHOLDER.findall(self.answer)
        if not names:
            raise TaskError(f"the answer template has no {{field}}: {self.answer!r}; name a column in braces")
        if sorted(names) != sorted(self.fields):
            raise TaskError(
                f"the answer template names {some(sorted(names))} but the fields are {some(sorted(self.fields))}; "
                "each field stands in the template exactly once"
            )
        if any(not literal.strip() for literal in self._literals[1:-1]):
            raise TaskError(f"two fields touch in {self.answer!r}; put some text between them")
        return self

    @cached_property
    def _literals(self) -> list[str]:
        return _PLACEHOLDER.split(self.answer)[0::2]

    @cached_property
    def names(self) -> list[str]:
        """Field names in the order of the template."""
        return _PLACEHOLDER.split(self.answer)[1::2]

    def of_kind(self, kind: str) -> list[str]:
        """Names of the fields of one kind, in template order."""
        return [name for name in self.names if self.fields[name].kind == kind]

    def abstaining(self, word: str = NOT_SHOWN) -> Task:
        """The task whose answers may say of every field that the image does not show it; rows still have values.

        ``word`` says so where the field is not optional; an optional one has its own. TaskError where some field could
        not be told from it.
        """
        fields = {
            name: field if field.may_be_absent else field.model_copy(update={"abstain": True, "absent": word})
            for name, field in self.fields.items()
        }
        task = Task.model_validate({**self.model_dump(), "fields": {n: f.model_dump() for n, f in fields.items()}})
        task.render(task.not_shown)
        return task

    @property
    def abstains(self) -> bool:
        """Whether an answer may be without a value in every field, and in some although every row has one."""
        fields = self.fields.values()
        return all(field.may_be_absent for field in fields) and any(field.abstain for field in fields)

    @property
    def needed(self) -> list[str]:
        """Fields that every row has a value of."""
        return [name for name in self.names if not self.fields[name].optional]

    @property
    def not_shown(self) -> dict[str, str]:
        """A row of a task that abstains: an image that shows no field."""
        return {name: self.fields[name].absent for name in self.names}

    def values(self, row: Mapping[str, Any]) -> dict[str, FieldValue]:
        """The task's fields of a table row, typed; TaskError without the column, EmptyFieldError without a value."""
        missing = [name for name in self.names if name not in row]
        if missing:
            raise TaskError(f"the table has no column {some(missing)}; its columns are {some(row, 20)}")
        return {name: self._typed(name, row[name]) for name in self.names}

    def _typed(self, name: str, value: Any) -> FieldValue:
        try:
            return self.fields[name].typed(value)
        except EmptyFieldError as error:
            raise EmptyFieldError(f"field {name!r} {error}") from None
        except ValueError as error:
            raise TaskError(f"field {name!r} {error}") from None

    def render(self, row: Mapping[str, Any]) -> str:
        """The answer for a row; TaskError when it could not be read back (a title that holds ', Category: ')."""
        values = self.values(row)
        written = {name: self.fields[name].write(values[name]) for name in self.names}
        text = _PLACEHOLDER.sub(lambda match: written[match[1]], self.answer)
        back = self.parse(text)
        again = back.values and {name: self.fields[name].write(back.values[name]) for name in self.names}
        if again != written:
            reason = back.reason or "a field holds text of the template"
            raise TaskError(f"the answer {text!r} cannot be read back ({reason}); change the template's separators")
        return text

    def answer_schema(self, known: Mapping[str, Known] | None = None) -> dict[str, Any]:
        """JSON schema of an answer's fields; ``known`` names the categories. An absent value is null."""
        properties: dict[str, Any] = {}
        for name in self.names:
            field = self.fields[name]
            one = field.rules.schema((known or {}).get(name, Known()), field)
            properties[name] = {"anyOf": [one, {"type": "null"}]} if field.may_be_absent else one
        return {"type": "object", "properties": properties, "required": self.names, "additionalProperties": False}

    def as_json(self, values: Mapping[str, FieldValue]) -> dict[str, Any]:
        """Fields as JSON holds them: a date as text, a list as an array, null where there is no value."""
        return {name: self.fields[name].rules.as_json(value) for name, value in values.items()}

    def spans(self, text: str) -> dict[str, tuple[int, int]] | None:
        """Character span of each field in an answer, white space around it left out; None where it is not one."""
        start = text.find(self._literals[0])
        if start < 0 or text[:start].strip():
            return None
        start, found = start + len(self._literals[0]), {}
        for name, literal in zip(self.names, self._literals[1:], strict=True):
            end = _end_of_value(text, literal, start, last=name == self.names[-1])
            if end < 0:
                return None
            value = text[start:end]
            first = start + len(value) - len(value.lstrip())
            found[name] = (first, first + len(value.strip()))
            start = end + len(literal)
        return found

    def parse(self, text: str) -> ParsedAnswer:
        """Read the fields of a generated answer; the reason for failure names the first thing that is wrong."""
        rest = " ".join(text.split())
        values: dict[str, FieldValue] = {}
        literals = [" ".join(literal.split()) for literal in self._literals]
        if not rest.startswith(literals[0]):
            return ParsedAnswer(None, f"does not begin with {literals[0]!r}")
        rest = rest[len(literals[0]) :]
        for name, literal in zip(self.names, literals[1:], strict=True):
            cut = _end_of_value(rest, literal, 0, last=name == self.names[-1])
            if cut < 0:
                return ParsedAnswer(None, f"{literal!r} missing after field {name!r}")
            value, rest = rest[:cut].strip(), rest[cut + len(literal) :]
            if not value:
                return ParsedAnswer(None, f"field {name!r} is empty")
            try:
                values[name] = self.fields[name].parse(value)
            except ValueError as error:
                return ParsedAnswer(None, f"field {name!r} {error}")
        if rest.strip():
            return ParsedAnswer(None, f"text after the answer: {rest.strip()[:40]!r}")
        return ParsedAnswer(values)


def _end_of_value(text: str, literal: str, start: int, *, last: bool) -> int:
    """Where a field's value ends: where its literal first stands; -1 where it does not.

    Behind the last field the literal ends the text, so that ``{price}.`` reads 12.50 from ``12.50.``.
    """
    if not literal:
        return len(text)
    end = len(text.rstrip()) - len(literal.rstrip())
    if last and end >= start and text.rstrip().endswith(literal.rstrip()):
        return end
    return text.find(literal, start)


def special_tokens_in(text: str) -> list[str]:
    """The special tokens that a text holds, in order, each once.

    Those of Phi-3 (``<|end|>``, ``<|user|>``, ``<|image_1|>``, ``<s>`` ...) and the placeholders of other models, which
    a tokenizer may split into plain text but which a data set of another model's format brings along.
    """
    return list(dict.fromkeys(_SPECIAL.findall(text)))


def checked_prompt(prompt: str) -> str:
    """A prompt as it is put to every image; TaskError when it holds a special token.

    A leading ``<|image_1|>``, as the published model cards write it, is the place of the image, which is there anyway:
    it is left out.
    """
    text = _LEADING_IMAGE.sub("", prompt)
    found = special_tokens_in(text)
    if found:
        raise TaskError(
            f"the prompt {prompt[:80]!r} holds {some(found)}; write the question alone: the image and the turns of the "
            "chat are added around it"
        )
    if not text.strip():
        raise TaskError(f"the prompt {prompt[:80]!r} asks nothing; write a question")
    return text
