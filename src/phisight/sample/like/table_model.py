"""A real table, learned; new tables of its kind, drawn."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phisight.core.seeding import named_seed
from phisight.sample.like.categories import CategoryModel
from phisight.sample.like.codes import AddressModel, CodeModel, as_like
from phisight.sample.like.column_kinds import Column, classify, date_formats, write_date
from phisight.sample.like.number_model import draw_numbers
from phisight.sample.like.real_table import RealTable
from phisight.sample.like.rules import Rules, decimals_of, find_rules
from phisight.sample.like.title_model import TextModel

_TEXT_KINDS = ("text", "key", "url", "image")


class TableModel:
    """What was learned of a real table: kinds of columns, rules, distributions, text style, formats."""

    def __init__(self, table: RealTable) -> None:
        self.rows = table.rows
        self.columns = [classify(name, values) for name, values in table.columns.items()]
        self.rules: Rules = find_rules(self.columns)

    def of_kind(self, *kinds: str) -> list[Column]:
        """Columns of some kinds, in table order."""
        return [column for column in self.columns if column.kind in kinds]

    @property
    def key(self) -> str | None:
        """The column that names a row, if there is one."""
        keys = [column for column in self.of_kind("key") if not column.missing.any()]
        return keys[0].name if keys else None

    @property
    def title(self) -> str | None:
        """The text column to show a person: one called title or name, else the first."""
        texts = [column.name for column in self.of_kind("text")]
        named = [name for name in texts if "title" in name.lower() or "name" in name.lower()]
        return next(iter(named or texts), None)

    def finest_category(self, most: int = 200) -> str | None:
        """The category column with most values, at most ``most``."""
        flags = {flag.column for flag in self.rules.flags}
        sizes = {
            column.name: len(set(map(str, column.values)))
            for column in self.of_kind("category")
            if column.name not in flags
        }
        fitting = {name: size for name, size in sizes.items() if size <= most}
        return max(fitting, key=lambda name: fitting[name]) if fitting else None

    def draw(self, count: int, seed: int) -> dict[str, list[Any]]:
        """A new table of ``count`` rows with the columns of the real one."""
        rng = np.random.default_rng(named_seed(seed, "sample", "imitate"))
        categories = CategoryModel(self.of_kind("category"), self.rules.parents, self.rows)
        drawn, leaves = categories.sample(count, rng)
        numbers = draw_numbers(self.of_kind("number", "date"), self.rules, leaves, drawn, count, rng)
        for column in self.columns:
            if column.kind in ("empty", "constant"):
                known = next((value for value in column.values if value is not None), None)
                drawn[column.name] = [known] * count
            elif column.kind == "number":
                drawn[column.name] = _as_numbers(column, numbers[column.name])
            elif column.kind == "date":
                drawn[column.name] = _as_dates(column, numbers[column.name], rng)
        self._draw_texts(drawn, count, rng)
        self._empty_cells(drawn, count, rng)
        order = rng.permutation(count)
        return {column.name: [drawn[column.name][row] for row in order] for column in self.columns}

    def _draw_texts(self, drawn: dict[str, list[Any]], count: int, rng: np.random.Generator) -> None:
        context = self.finest_category(most=self.rows)
        contexts = [str(value) for value in drawn[context]] if context else [""] * count
        by_name = {column.name: column for column in self.columns}
        for column in self.of_kind("text"):
            keep = [row for row, value in enumerate(column.values) if value is not None]
            real = [str(by_name[context].values[row]) if context else "" for row in keep]
            chain = TextModel([str(column.values[row]) for row in keep], real)
            drawn[column.name] = [chain.draw(each, rng) for each in contexts]
        for column in self.of_kind("key"):
            codes = CodeModel([str(value) for value in column.values if value is not None])
            sample = next(value for value in column.values if value is not None)
            drawn[column.name] = [as_like(codes.draw(rng), sample) for _ in range(count)]
        key, title = self.key, self.title
        for column in self.of_kind("url", "image"):
            rows = [row for row, value in enumerate(column.values) if value is not None]
            model = AddressModel(
                [str(column.values[row]) for row in rows],
                [str(by_name[key].values[row]) if key else "" for row in rows],
                [str(by_name[title].values[row] or "") if title else "" for row in rows],
            )
            keys = drawn[key] if key else [""] * count
            names = drawn[title] if title else [""] * count
            drawn[column.name] = [model.draw(str(code), str(name), rng) for code, name in zip(keys, names, strict=True)]

    def _empty_cells(self, drawn: dict[str, list[Any]], count: int, rng: np.random.Generator) -> None:
        """Cells go missing as often as in the real table, and together where they went missing together."""
        masks: dict[bytes, NDArray[np.bool_]] = {}
        for column in self.columns:
            missing = column.missing
            if column.kind in ("category", "empty") or not missing.any():
                continue
            shared = masks.get(missing.tobytes())
            if shared is None:
                shared = np.zeros(count, dtype=bool)
                shared[rng.permutation(count)[: round(count * float(missing.mean()))]] = True
                masks[missing.tobytes()] = shared
            drawn[column.name] = [
                None if gone else value for value, gone in zip(drawn[column.name], shared, strict=True)
            ]

    def described(self) -> dict[str, Any]:
        """What was learned, for the card: no value of the real table but names of columns."""
        kinds: dict[str, list[str]] = defaultdict(list)
        for column in self.columns:
            kinds[column.kind].append(column.name)
        return {
            "rows_learned_from": self.rows,
            "columns": dict(kinds),
            "cells_that_do_not_fit_their_column": {c.name: c.odd for c in self.columns if c.odd},
            "rules": {
                "hierarchy": [f"{fine} -> {coarse}" for fine, coarse in self.rules.parents.items()],
                "rate": [f"{rate.target} = {rate.source} * {rate.rate:g}" for rate in self.rules.rates],
                "order": [f"{order.low} <= {order.high}" for order in self.rules.orders],
                "flag": [f"{flag.column} tells {flag.low} < {flag.high}" for flag in self.rules.flags],
            },
        }


def _as_numbers(column: Column, values: NDArray[np.float64]) -> list[Any]:
    decimals = decimals_of(column.numbers)
    rounded = np.round(values, decimals)
    filled = [value for value in column.values if value is not None]
    if all(isinstance(value, int) for value in filled):
        return [int(value) for value in rounded]
    if any(isinstance(value, str) for value in filled):
        digits = Counter(len(str(value).partition(".")[2]) for value in filled)
        if len(digits) == 1:
            return [f"{value:.{next(iter(digits))}f}" for value in rounded]
        return [f"{value:.{decimals}f}".rstrip("0").rstrip(".") if decimals else f"{value:.0f}" for value in rounded]
    return [float(value) for value in rounded]


def _as_dates(column: Column, values: NDArray[np.float64], rng: np.random.Generator) -> list[Any]:
    counts = date_formats(column)
    forms, shares = list(counts), np.array(list(counts.values()), dtype=np.float64)
    chosen = rng.choice(len(forms), size=len(values), p=shares / shares.sum())
    return [write_date(value, forms[each]) for value, each in zip(values, chosen, strict=True)]
