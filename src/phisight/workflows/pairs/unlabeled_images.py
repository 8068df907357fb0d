"""A folder of images without answers, as rows to ask about."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import NamedTuple

from phisight.core.dataset_folder import SHA256, SPLIT
from phisight.core.errors import SourceError
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.images.image_names import IMAGE_SUFFIXES, image_files
from phisight.evaluate import EvalRow

BESIDE = "unlabeled"
"""Folder beside the pairs that holds a copy of each image that gives one."""


class UnlabeledImages(NamedTuple):
    """Images to ask about."""

    rows: list[EvalRow]
    """Key: path below the folder; no truth, no expected answer."""
    held_back: int
    """Images left out since the data set has them in a split that is not for training."""
    repeated: int
    """Images left out since another one has the same bytes."""
    fingerprint: str
    """Hash of names and bytes."""


def unlabeled_images(path: Path, folder: DatasetFolder) -> UnlabeledImages:
    """The images below a folder in path order; SourceError where there is none. Hidden files are left out."""
    held = {row.get(SHA256) for row in folder.rows() if row[SPLIT] != "train"} - {None}
    rows: list[EvalRow] = []
    seen: set[str] = set()
    held_back = repeated = 0
    for name in image_files(path):
        file = path / name
        if not file.is_file():
            continue
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if digest in held:
            held_back += 1
        elif digest in seen:
            repeated += 1
        else:
            rows.append(EvalRow(name, file, {}, "", content=digest, group=digest, hashes=(digest,)))
        seen.add(digest)
    if not rows:
        raise SourceError(
            f"{path} holds no image to ask about ({held_back} are in the validation or test split); name a folder of "
            f"images ({', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    fingerprint = hashlib.sha256("\n".join(f"{row.key}\t{row.content}" for row in rows).encode()).hexdigest()
    return UnlabeledImages(rows, held_back, repeated, fingerprint)


def copied(row: EvalRow, out: Path) -> str:
    """The name of an image in a file of pairs that lies in ``out``; its copy is made where it is not there."""
    target = out / BESIDE / row.key
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.partial")
        shutil.copyfile(row.image, partial)
        partial.replace(target)
    return f"{BESIDE}/{row.key}"
