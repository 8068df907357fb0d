"""Second half of a build: from staged rows and downloaded images to the finished folder.

The journal is read twice, row by row: once for the rejects and what is compared between rows, once for the table. What
stays in memory are the arrays of ``AcceptedRows``, so a long list costs little.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from phisight.core.dataset_folder import IMAGES, METADATA, REJECTS, SPLITS, DatasetCard
from phisight.core.errors import DatasetError
from phisight.core.run_folder import atomic_file
from phisight.data.build.finish.accepted_rows import DIGEST, AcceptedCollector, AcceptedRows
from phisight.data.build.finish.findings import Finding, Findings, check_images, check_table, check_values
from phisight.data.build.finish.put_in_place import new_folder, publish
from phisight.data.build.finish.table import write_metadata
from phisight.data.build.plan.columns import Columns
from phisight.data.build.plan.config import BuildOptions
from phisight.data.build.plan.kept_splits import KeptSplits
from phisight.data.build.plan.own_split import OwnSplit
from phisight.data.build.plan.splits import assign_splits, empty_splits, split_fraction
from phisight.data.build.plan.table_columns import NUMBER, AcceptedRow, carried_name
from phisight.data.build.work.journal import Journal, StagedRow
from phisight.data.build.work.stage import Stager
from phisight.data.images.rejection import Rejection, StoredImage

_FEW, _MOST_IN_A_GROUP, _ROWS_MISSED = 10, 0.5, 3


@dataclass
class BuildResult:
    """Counts and findings of a finished build; read = kept + rejected."""

    folder: Path
    read: int
    kept: int
    rejected: Counter[str]
    splits: dict[str, int]
    findings: list[Finding]
    guesses: list[str]
    options: tuple[str, ...]
    """The options that would say what was guessed."""
    remarks: list[str]


class Finalizer:
    """Writes rejects.jsonl, metadata.parquet and dataset.json."""

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        columns: Columns,
        options: BuildOptions,
        own_split: OwnSplit | None = None,
        kept: KeptSplits | None = None,
    ) -> None:
        self.folder = folder
        self.new = new_folder(folder)
        self.journal = journal
        self.columns = columns
        self.options = options
        self.own_split = own_split
        self.kept = kept
        self.findings = Findings()

    def finalize(self, description: Mapping[str, Any], remarks: list[str], stager: Stager) -> BuildResult:
        """Write everything; check that every row is accounted for. ``description`` of the source goes into the card."""
        collected, rejected = self._sort_out()
        if len(collected) + rejected.total() != stager.read:
            raise AssertionError(f"{len(collected)} kept + {rejected.total()} rejected != {stager.read} read")
        if not len(collected):
            raise DatasetError(
                f"none of {stager.read} rows could be kept ({_most(rejected)}); {self.new / REJECTS} says why"
            )
        accepted = collected.arrays(self.journal)
        leaders, near = self._grouped(accepted)
        splits = self._splits(accepted, leaders)
        write_metadata(self.new / METADATA, self.journal.rows_path, self._accepted_rows(accepted, leaders, splits))
        check_images(self.findings, accepted, near)
        check_table(self.findings, accepted, leaders)
        self._check_values()
        counts = dict(zip(SPLITS, np.bincount(splits, minlength=len(SPLITS)).tolist(), strict=True))
        own = self.own_split.column if self.own_split else None
        empty = empty_splits(counts, len(np.unique(leaders)), self.options.shares, own)
        result = BuildResult(
            self.folder,
            stager.read,
            len(accepted),
            rejected,
            counts,
            self.findings.found(lambda at: self.journal.key_of(int(accepted.numbers[at]))),
            self.columns.guesses,
            self.columns.options,
            [*remarks, *(f"{text}; {self.folder / REJECTS} lists them" for text in stager.remarks()), *empty],
        )
        self._check_splits(result.splits)
        self._write_card(description, result)
        publish(self.folder)
        _prune(self.folder, accepted.images)
        return result

    def _sort_out(self) -> tuple[AcceptedCollector, Counter[str]]:
        """Write rejects.jsonl; the accepted rows, and the counts of the others by kind."""
        accepted = AcceptedCollector()
        rejected: Counter[str] = Counter()
        with atomic_file(self.new / REJECTS) as file:
            for row, result in self.journal.rows():
                if isinstance(result, Rejection):
                    rejected[result.kind] += 1
                    file.write(_reject_line(row, result))
                    continue
                for note in filter(None, result.notes.split(",")):
                    self.findings.add(f"image_{note}", len(accepted))
                accepted.add(row, result)
        return accepted, rejected

    def _grouped(self, accepted: AcceptedRows) -> tuple[np.ndarray, np.ndarray]:
        """Groups and near-duplicates; where these would join most rows, equal files alone make groups."""
        leaders, near = accepted.grouped(self.options.near_duplicates)
        if self.options.near_duplicates and _largest(leaders) > max(_FEW, _MOST_IN_A_GROUP * len(accepted)):
            apart, _ = accepted.grouped(False, equal_files=True)
            if _largest(apart) < _largest(leaders) / 2:
                self.findings.add_all("near_duplicates_apart", np.flatnonzero(near))
                leaders = apart
        return leaders, near

    def _check_splits(self, counts: Mapping[str, int]) -> None:
        """DatasetError when a split that should have several rows has none."""
        if self.own_split is not None or self.kept is not None:
            return
        rows = sum(counts.values())
        for name in SPLITS:
            wanted = self.options.shares[name] * rows
            if not counts[name] and wanted >= _ROWS_MISSED:
                raise DatasetError(
                    f"split {name} would have no row where its share of {rows} rows is {wanted:.0f}: a group (one key, "
                    "one value of --group, images that are nearly the same) holds too many; name another --group or "
                    "--no-near-duplicates, or ask for it with --shares 1,0,0"
                )

    def _splits(self, accepted: AcceptedRows, leaders: np.ndarray) -> np.ndarray:
        """uint8[K]: an index into SPLITS; the table's own split where it has one. A group is named after its leader."""
        if self.own_split is not None:
            return self._own_splits(accepted, self.own_split)
        fraction = np.zeros(len(accepted))
        at = 0
        leads = leaders == np.arange(len(accepted))
        for number, key in self.journal.numbered_keys():
            if at < len(accepted) and number == accepted.numbers[at]:
                if leads[at]:
                    fraction[at] = split_fraction(self.options.seed, key)
                at += 1

        def deal(at: np.ndarray) -> np.ndarray:
            groups, placed = accepted.keys[leaders], fraction[leaders]
            return assign_splits(
                groups[at], accepted.categories[at], accepted.prices[at], placed[at], self.options.shares
            )

        if self.kept is not None:
            return self.kept.assigned(accepted.numbers, leaders, deal)
        return deal(np.arange(len(accepted)))

    def _own_splits(self, accepted: AcceptedRows, own: OwnSplit) -> np.ndarray:
        """uint8[K]: the split that each accepted row names itself."""
        splits = np.zeros(len(accepted), dtype=np.uint8)
        at = 0
        with pq.ParquetFile(self.journal.rows_path) as file:
            for batch in file.iter_batches(batch_size=8192, columns=[carried_name(own.column), NUMBER]):
                for cell, number in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    if at < len(accepted) and number == accepted.numbers[at]:
                        splits[at] = SPLITS.index(own.split_of(cell))
                        at += 1
        return splits

    def _accepted_rows(self, accepted: AcceptedRows, leaders: np.ndarray, splits: np.ndarray) -> Iterator[AcceptedRow]:
        """The rows of the table, read from the journal once more."""
        stored = ((row, image) for row, image in self.journal.rows() if isinstance(image, StoredImage))
        for at, (row, image) in enumerate(stored):
            leader = int(leaders[at])
            group = row.key if leader == at else self.journal.key_of(int(accepted.numbers[leader]))
            yield AcceptedRow(row.number, row.line, row.token or "", image, SPLITS[splits[at]], group)

    def _check_values(self) -> None:
        at = 0
        with pq.ParquetFile(self.new / METADATA) as file:
            wanted = {*self.columns.task.of_kind("number"), "price", "full_price"}
            names = [name for name in file.schema_arrow.names if name in wanted]
            for batch in file.iter_batches(batch_size=8192, columns=names) if names else ():
                for row in batch.to_pylist():
                    check_values(self.findings, at, row, self.columns.task)
                    at += 1

    def _write_card(self, description: Mapping[str, Any], result: BuildResult) -> None:
        card = DatasetCard(
            task=self.columns.task,
            key=carried_name(self.columns.key) if self.columns.key else NUMBER,
            rows=result.kept,
            rejected=result.rejected.total(),
            splits=result.splits,
            source=dict(description),
        )
        extra: dict[str, Any] = {
            "rejected_by_kind": dict(sorted(result.rejected.items())),
            "findings": [finding.model_dump() for finding in result.findings],
            "build": {
                "seed": self.options.seed,
                "shares": asdict(self.options.shares),
                "group": asdict(self.options.group),
                "near_duplicates": self.options.near_duplicates,
                "split_column": self.own_split.column if self.own_split else None,
                "limits": asdict(self.options.limits),
            },
        }
        card.model_copy(update=extra).write(self.new)


def _largest(leaders: np.ndarray) -> int:
    return int(np.bincount(leaders).max())


def _reject_line(row: StagedRow, rejection: Rejection) -> bytes:
    line = {"row": row.line, "key": row.key, "url": row.url, "kind": rejection.kind, "reason": rejection.reason}
    if row.token and row.token.startswith("url:"):
        line["token"] = row.token
    return (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _most(rejected: Counter[str]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in rejected.most_common(3)) or "the source is empty"


def _prune(folder: Path, images: np.ndarray) -> None:
    """Remove images that no row needs (left by an interrupted build or an older version of the source)."""
    wanted = np.unique(images)
    if sum(len(names) for _, _, names in os.walk(folder / IMAGES)) == len(wanted):
        return  # what is wanted is there, so there is nothing else
    for parent, _, names in os.walk(folder / IMAGES, topdown=False):
        digests = np.array([_digest_in(name) for name in names], dtype=DIGEST)
        unwanted = np.flatnonzero(~np.isin(digests, wanted))
        for at in unwanted:
            Path(parent, names[at]).unlink()
        if len(unwanted) == len(names) and Path(parent) != folder / IMAGES and not any(Path(parent).iterdir()):
            Path(parent).rmdir()


def _digest_in(name: str) -> bytes:
    """The digest in an image's file name; empty for a name that phisight did not give."""
    try:
        return bytes.fromhex(Path(name).stem)
    except ValueError:
        return b""
