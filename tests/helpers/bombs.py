"""Small files that ask for much: images of thousands of scans or directories, tables that unfold, archives."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.helpers.images import encoded, smooth_image


def jpeg_of_scans(count: int, size: tuple[int, int] = (1000, 1000)) -> bytes:
    """A progressive JPEG whose second scan (of brightness) stands ``count`` times, writing the same again."""
    data = encoded(smooth_image(0, size), "JPEG", progressive=True)
    start = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    end = data.index(b"\xff\xc4", start)
    return data[:start] + data[start:end] * count + data[end:]


def tiff_of_directories(count: int) -> bytes:
    """A TIFF of ``count`` directories that share their pixels."""
    file = io.BytesIO()
    Image.new("L", (40, 40), 90).save(file, "TIFF")
    data = bytearray(file.getvalue())
    order = "<" if data[:2] == b"II" else ">"
    first = struct.unpack_from(f"{order}I", data, 4)[0]
    entries = struct.unpack_from(f"{order}H", data, first)[0]
    directory = bytes(data[first : first + 2 + 12 * entries])
    end = first + 2 + 12 * entries
    for _ in range(count - 1):
        struct.pack_into(f"{order}I", data, end, len(data))
        data += directory
        end = len(data)
        data += b"\0\0\0\0"
    return bytes(data)


def parquet_of_one_value(path: Path, rows: int, size: int) -> Path:
    """A Parquet file of some kB whose image column holds one value of ``size`` bytes in every row."""
    image = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([b"\0" * size]))
    table = pa.table({"id": [str(at) for at in range(rows)], "image": image.cast(pa.binary()) if rows < 3 else image})
    pq.write_table(table, path, compression="zstd", store_schema=False)
    return path


def parquet_of_zeros(path: Path, size: int) -> Path:
    """A Parquet file whose one value is ``size`` zeros, a thousandth of that on disk."""
    table = pa.table({"id": ["1"], "image": pa.array([b"\0" * size])})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    return path


def tar_of_large_members(path: Path, count: int, size: int) -> Path:
    """A gzipped tar: ``count`` images of ``size`` zeros, and a good one."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for at in range(count):
            add(tar, f"{at:03d}.jpg", b"\0" * size)
            add(tar, f"{at:03d}.json", json.dumps({"title": f"T{at}"}).encode())
        add(tar, "good.jpg", encoded(smooth_image(1)))
        add(tar, "good.json", b'{"title": "good"}')
    return path


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def tar_of_a_large_header(path: Path, size: int) -> Path:
    """A gzipped tar whose extended header is ``size`` bytes long."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, size
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(size // 1_000_000):
            file.write(b"\0" * 1_000_000)
    return path


def jsonl_of_a_large_row(path: Path, size: int) -> Path:
    """JSON Lines: a row of ``size`` bytes between two good ones."""
    with path.open("w") as file:
        file.write('{"id": "a", "title": "one"}\n{"id": "b", "title": "')
        for _ in range(size // 1_000_000):
            file.write("x" * 1_000_000)
        file.write('"}\n{"id": "c", "title": "two"}\n')
    return path


def csv_of_a_large_row(path: Path, size: int) -> Path:
    """CSV: a line of ``size`` characters between two good ones."""
    with path.open("w") as file:
        file.write("id,title\na,one\nb,")
        for _ in range(size // 1_000_000):
            file.write("x" * 1_000_000)
        file.write("\nc,two\n")
    return path


def csv_of_columns(path: Path, count: int) -> Path:
    """CSV with ``count`` columns and two rows."""
    names = ["image", "title", *(f"c{at}" for at in range(count))]
    rows = [[f"{at}.jpg", f"T{at}", *(["x"] * count)] for at in range(2)]
    path.write_text("\n".join(",".join(row) for row in [names, *rows]) + "\n")
    return path
