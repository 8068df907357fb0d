"""A finished data set folder in other layouts: Parquet or WebDataset shards with the images inside, or a CSV file.

Shards are planned from the table alone (rows in table order, split by split, up to ``shard_bytes`` of images each),
so the same folder gives the same files to the byte wherever it is exported.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from phisight.core.dataset_folder import CARD, FILE_NAME
from phisight.core.errors import DatasetError, SettingsError
from phisight.core.run_folder import atomic_file, write_text_atomically
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.values.spreadsheet_cells import harmless

Format = Literal["parquet", "webdataset", "csv"]
SHARD_BYTES = 400_000_000
_ROWS_AT_ONCE = 64
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@dataclass(frozen=True)
class Shard:
    """One file to write: rows of one split."""

    split: str
    number: int
    of: int
    rows: list[dict[str, Any]]

    def name(self, suffix: str) -> str:
        """``train-00000-of-00003.parquet``."""
        return f"{self.split}-{self.number:05d}-of-{self.of:05d}.{suffix}"


def export(data: DatasetFolder, out: Path, layout: str, shard_bytes: int = SHARD_BYTES) -> list[Path]:
    """Write the data set into a new folder; the files written. SettingsError for a layout that is none."""
    writers: dict[str, Callable[[DatasetFolder, Path, int], list[Path]]] = {
        "parquet": _write_parquet,
        "webdataset": _write_webdataset,
        "csv": _write_csv,
    }
    if layout not in writers:
        raise SettingsError(f"--format {layout!r} is none of {', '.join(get_args(Format))}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out} already holds something; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    return writers[layout](data, out, shard_bytes)


def shards(data: DatasetFolder, shard_bytes: int) -> Iterator[Shard]:
    """The rows of each split, cut where the images reach ``shard_bytes``."""
    for split in data.split_names:
        parts: list[list[dict[str, Any]]] = [[]]
        size = 0
        for row in data.rows(split):
            image = data.image_path(row).stat().st_size
            if parts[-1] and size + image > shard_bytes:
                parts.append([])
                size = 0
            parts[-1].append(row)
            size += image
        for number, rows in enumerate(parts):
            yield Shard(split, number, len(parts), rows)


def _write_parquet(data: DatasetFolder, out: Path, shard_bytes: int) -> list[Path]:
    """``data/train-00000-of-00001.parquet`` and a card, as the hub shows and ``load_dataset`` opens them."""
    schema = _hub_schema(data.table.schema)
    written = []
    for shard in shards(data, shard_bytes):
        path = out / "data" / shard.name("parquet")
        with atomic_file(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for start in range(0, len(shard.rows), _ROWS_AT_ONCE):
                rows = [_with_image(data, row) for row in shard.rows[start : start + _ROWS_AT_ONCE]]
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        written.append(path)
    write_text_atomically(out / "README.md", _hub_card(data))
    write_text_atomically(out / CARD, (data.path / CARD).read_text(encoding="utf-8"))
    return [*written, out / "README.md", out / CARD]


def _with_image(data: DatasetFolder, row: dict[str, Any]) -> dict[str, Any]:
    path = data.image_path(row)
    return {**row, "image": {"bytes": path.read_bytes(), "path": path.name}}


def _hub_schema(schema: pa.Schema) -> pa.Schema:
    """The table's columns with the image in place of its file name, described for the ``datasets`` library."""
    from datasets import Features, Image

    columns = [field for field in schema.remove_metadata() if field.name != FILE_NAME]
    plain = pa.schema([pa.field("image", _IMAGE), *columns])
    features = Features.from_arrow_schema(plain)
    features["image"] = Image()
    return plain.with_metadata({"huggingface": json.dumps({"info": {"features": features.to_dict()}})})


def _hub_card(data: DatasetFolder) -> str:
    files = "".join(f"  - split: {name}\n    path: data/{name}-*.parquet\n" for name in data.split_names)
    counts = "".join(f"| {name} | {count} |\n" for name, count in data.card.splits.items() if count)
    return (
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n\n"
        f"Images with fields, built with phisight.\n\n| split | rows |\n|---|---|\n{counts}\n"
        f"Question: {data.task.prompt}\n\nAnswer: `{data.task.answer}`\n"
    )


def _write_webdataset(data: DatasetFolder, out: Path, shard_bytes: int) -> list[Path]:
    """``train-00000-of-00001.tar`` with an image and a JSON member for each row, named by the row's number."""
    written = []
    for shard in shards(data, shard_bytes):
        path = out / shard.name("tar")
        with atomic_file(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for row in shard.rows:
                image = data.image_path(row)
                name = f"{int(row['source_row']):09d}" if "source_row" in row else image.stem
                values = {key: value for key, value in row.items() if key != FILE_NAME}
                _add_member(tar, f"{name}{image.suffix}", image.read_bytes())
                _add_member(tar, f"{name}.json", json.dumps(values, ensure_ascii=False, default=str).encode())
        written.append(path)
    return written


def _add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # no time, owner or machine: the same bytes everywhere
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _write_csv(data: DatasetFolder, out: Path, _: int) -> list[Path]:
    """``rows.csv``: the table alone, with cells that a spreadsheet would run made harmless."""
    path = out / "rows.csv"
    with atomic_file(path) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow(map(harmless, data.table.column_names))
        for batch in data.table.to_batches(max_chunksize=8192):
            writer.writerows([harmless(value) for value in row.values()] for row in batch.to_pylist())
        text.detach()
    return [path]
