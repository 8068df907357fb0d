"""Small files that ask for much: images of thousands of scans or directories, tables that unfold, archives."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import tarfile
import zipfile
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


def tiff_of_a_jpeg(data: bytes, size: tuple[int, int]) -> bytes:
    """A TIFF of one strip, which is that JPEG."""
    long, short = 4, 3
    tags: list[tuple[int, int, int | None]] = [
        (256, long, size[0]),
        (257, long, size[1]),
        (259, short, 7),
        (262, short, 6),
        (277, short, 3),
    ]
    tags += [(278, long, size[1]), (279, long, len(data))]
    head = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags += [(273, long, head + 6), (258, short, None)]
    entries = b"".join(
        struct.pack("<HHII", tag, kind, 3, head) if value is None else struct.pack("<HHII", tag, kind, 1, value)
        for tag, kind, value in sorted(tags)
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 4 + struct.pack("<HHH", 8, 8, 8) + data


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


def parquet_of_a_large_cell(path: Path, size: int) -> Path:
    """A Parquet file of three rows; the second holds ``size`` bytes that no method compresses."""
    table = pa.table({"id": ["a", "b", "c"], "image": pa.array([b"one", os.urandom(size), b"two"])})
    pq.write_table(table, path, compression="zstd")
    return path


def parquet_that_unfolds(path: Path, size: int, times: int) -> Path:
    """A Parquet file whose one value has ``size`` bytes, some ``times`` what the file has."""
    value = os.urandom(size // times) + b"\0" * (size - size // times)
    pq.write_table(pa.table({"id": ["1"], "image": pa.array([value])}), path, compression="zstd", use_dictionary=False)
    return path


def workbook_of_one_text(path: Path, rows: int, size: int) -> Path:
    """A workbook of some kB whose cells all name the same text of ``size`` characters."""
    cells = "".join(f'<row r="{at}"><c r="A{at}" t="s"><v>0</v></c></row>' for at in range(1, rows + 1))
    space, office = "http://schemas.openxmlformats.org/", "http://schemas.openxmlformats.org/officeDocument/2006/"
    types = "application/vnd.openxmlformats-officedocument.spreadsheetml."
    relations = {"worksheet": "worksheets/sheet1.xml", "sharedStrings": "sharedStrings.xml"}
    linked = "".join(
        f'<Relationship Id="r{at}" Type="{office}relationships/{kind}" Target="{target}"/>'
        for at, (kind, target) in enumerate(relations.items())
    )
    main, packed = f'xmlns="{space}spreadsheetml/2006/main"', f'xmlns="{space}package/2006/'
    parts = {
        "[Content_Types].xml": f'<Types {packed}content-types"><Default Extension="xml" ContentType="{types}main+xml"/>'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/></Types>',
        "_rels/.rels": f'<Relationships {packed}relationships"><Relationship Id="r0" '
        f'Type="{office}relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/_rels/workbook.xml.rels": f'<Relationships {packed}relationships">{linked}</Relationships>',
        "xl/workbook.xml": f'<workbook {main} xmlns:r="{office}relationships"><sheets>'
        '<sheet name="One" sheetId="1" r:id="r0"/></sheets></workbook>',
        "xl/sharedStrings.xml": f"<sst {main}><si><t>{'x' * size}</t></si></sst>",
        "xl/worksheets/sheet1.xml": f"<worksheet {main}><sheetData>{cells}</sheetData></worksheet>",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
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


def json_of_a_large_record(path: Path, size: int) -> Path:
    """A JSON array: a record of ``size`` bytes between two good ones."""
    lines = jsonl_of_a_large_row(path, size)
    text = lines.read_bytes().strip().replace(b"\n", b",\n")
    lines.write_bytes(b"[" + text + b"]")
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
