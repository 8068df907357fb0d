"""The captioned drawings whose pattern is easy to see: the last part of pretraining learns patterns from these."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from phisight.core.dataset_folder import FILE_NAME, METADATA, SPLIT, SPLITS, DatasetCard
from phisight.core.errors import SampleError
from phisight.sample.captions.caption_content import Captioned, captioned
from phisight.sample.captions.caption_folder import KEY, PRESET, TABLE
from phisight.sample.card import SampleCard
from phisight.sample.output_folder import new_folder

SMALL_PARTS = frozenset(
    {
        "belt", "bracelet", "earrings", "gloves", "loafer", "necklace", "perfume", "pump", "ring", "sandal",
        "sunglasses", "wallet", "watch",
    }
)  # fmt: skip
"""Kinds with little cloth to be seen."""
PATTERNS = frozenset({"plain", "stripe", "check", "dots", "argyle", "floral"})


def is_easy(drawing: Captioned) -> bool:
    """On plain ground, with much cloth, in one of six patterns."""
    return not drawing.busy and drawing.product.kind not in SMALL_PARTS and drawing.product.pattern in PATTERNS


def select_easy(source: Path, out: Path, *, overwrite: bool = False) -> int:
    """Write the easy rows of a folder of captioned drawings into the data set folder ``out``; how many they are.

    SampleError where ``source`` holds something else.
    """
    card = DatasetCard.read(source)
    if card.source.get("preset") != PRESET:
        raise SampleError(f"{source} holds no captioned drawings; make them with --preset {PRESET}")
    seed = int(card.source["seed"])
    rows = [
        row
        for row in pq.read_table(source / METADATA).to_pylist()
        if is_easy(captioned(seed, int(row[KEY].removeprefix("D-"))))
    ]
    with new_folder(out, overwrite) as folder:
        for row in rows:
            (folder / row[FILE_NAME]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / row[FILE_NAME], folder / row[FILE_NAME])
        pq.write_table(pa.Table.from_pylist(rows, schema=TABLE), folder / METADATA)
        splits = Counter(row[SPLIT] for row in rows)
        described = {"kind": "sample", "preset": PRESET, "seed": seed, "rows": len(rows)}
        counts = {split: splits[split] for split in SPLITS}
        DatasetCard(task=card.task, key=KEY, rows=len(rows), splits=counts, source=described).write(folder)
        SampleCard(
            rows=len(rows),
            designs=len(rows),
            seed=seed,
            settings={"preset": PRESET},
            price_rule={},
            best_price_median_ape=None,
        ).write(folder)
    return len(rows)
