"""Data sets on the hub, streamed through ``datasets``: nothing is stored twice, no code of strangers is run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from phisight.core.errors import SourceError, some
from phisight.data.sources.base import BATCH_ROWS, Source, SourceBatch
from phisight.data.sources.bounds import MAX_BYTES
from phisight.data.sources.parquet import named

_NAME = re.compile(
    r"hf:(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?::(?P<config>[\w.-]+))?(?:#(?P<split>[\w.-]+))?"
)
SPLIT_COLUMN = "hub_split"
"""Added where a data set has several splits: which one a row came from."""


@dataclass(frozen=True)
class HubName:
    """``hf:OWNER/NAME[@REVISION][:CONFIG][#SPLIT]``."""

    name: str
    revision: str | None = None
    config: str | None = None
    split: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubName:
        """Read it; SourceError when it is none."""
        match = _NAME.fullmatch(text)
        if match is None:
            raise SourceError(f"{text!r} is no hub data set; write hf:OWNER/NAME, with @REVISION, :CONFIG or #SPLIT")
        return cls(**match.groupdict())


class HubSource(Source):
    """One data set; all its splits in their order, unless one is named. Image columns come as bytes."""

    root: Path | None = None
    key_column: str | None = None

    def __init__(self, name: HubName, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        import datasets
        from huggingface_hub import HfApi

        try:
            commit = HfApi().dataset_info(name.name, revision=name.revision).sha
            found = datasets.load_dataset(name.name, name.config, revision=commit, split=None, streaming=True)
        except Exception as error:  # the libraries raise their own, the network's and the file system's
            raise SourceError(
                f"hf:{name.name} cannot be read: {type(error).__name__}: {str(error).splitlines()[0][:200]}; "
                "check the name, the network and, for private data sets, `hf auth login`"
            ) from error
        if name.split is not None and name.split not in found:
            raise SourceError(f"hf:{name.name} has no split {name.split!r}; it has {some(found)}")
        wanted = [name.split] if name.split else list(found)
        self._splits = {split: _with_raw_images(found[split]) for split in wanted}
        schemas = [part.features.arrow_schema.remove_metadata() for part in self._splits.values()]
        if any(not schema.equals(schemas[0]) for schema in schemas):
            raise SourceError(
                f"the splits of hf:{name.name} have different columns; name one: hf:{name.name}#{wanted[0]}"
            )
        self.schema: pa.Schema = schemas[0]
        features = self._splits[wanted[0]].features
        self._labels = {
            key: list(kind.names) for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)
        }
        self.schema = pa.schema([pa.field(f.name, pa.string()) if f.name in self._labels else f for f in self.schema])
        images = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
        self.image_column: str | None = images[0] if images else None
        if len(wanted) > 1:
            self.schema = self.schema.append(pa.field(SPLIT_COLUMN, pa.string()))
        self.description: dict[str, Any] = {
            "kind": "hub", "name": name.name, "revision": commit, "config": name.config, "splits": wanted,
        }  # fmt: skip

    @classmethod
    def parse(cls, text: str, max_bytes: int = MAX_BYTES) -> HubSource:
        """Open ``hf:OWNER/NAME...``."""
        return cls(HubName.parse(text), max_bytes)

    def count(self) -> int | None:
        """Rows, where the data set says so."""
        total = 0
        for split, part in self._splits.items():
            known = (part.info.splits or {}).get(split)
            if known is None or not known.num_examples:
                return None
            total += int(known.num_examples)
        return total

    def batches(self) -> Iterator[SourceBatch]:
        """All rows, split after split."""
        done = 0
        for split, part in self._splits.items():
            for table in part.with_format("arrow").iter(batch_size=BATCH_ROWS // 8):
                table = named(table.replace_schema_metadata(None), self._labels)
                if self.image_column:
                    table = _with_bytes(table, self.image_column, self._max_bytes)
                if SPLIT_COLUMN in self.schema.names:
                    table = table.append_column(SPLIT_COLUMN, pa.array([split] * table.num_rows, pa.string()))
                yield SourceBatch(table.select(self.schema.names), list(range(done + 1, done + 1 + table.num_rows)))
                done += table.num_rows


def _with_raw_images(part: Any) -> Any:
    """The split with its features known and its image columns left as the files they are."""
    import datasets

    if part.features is None:
        part = part._resolve_features()
    for name, kind in part.features.items():
        if isinstance(kind, datasets.Image):
            part = part.cast_column(name, datasets.Image(decode=False))
    return part


def _with_bytes(table: pa.Table, column: str, max_bytes: int) -> pa.Table:
    """Images that are files of the repository are read, one byte past the limit at most; embedded ones are there."""
    from huggingface_hub import HfFileSystem

    hub = HfFileSystem()
    cells = table[column].to_pylist()
    for cell in cells:
        if cell and cell.get("bytes") is None and str(cell.get("path") or "").startswith("hf://"):
            with hub.open(cell["path"], "rb") as file:
                cell["bytes"] = file.read(max_bytes + 1)
    return table.set_column(table.column_names.index(column), column, pa.array(cells, table[column].type))
