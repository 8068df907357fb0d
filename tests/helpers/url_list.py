"""A data set build from a list of addresses: the list, quick options and the bytes that came out."""

import csv
from pathlib import Path

from phisight.core.task import Task
from phisight.data.build.plan.config import BuildOptions
from phisight.data.fetch.limits import FetchLimits
from phisight.data.images.decode import ImageLimits

TASK = Task.model_validate({"answer": "{title}", "fields": {"title": "text"}})
QUICK = FetchLimits(total_s=4, read_s=3, backoff_s=0.02, allow_private=True)
OPTIONS = BuildOptions(task=TASK, fetch=QUICK, limits=ImageLimits(max_bytes=5_000_000))


def write_list(path: Path, urls: list[str]) -> Path:
    with path.open("w", newline="") as file:
        rows = [[f"k{at:04d}", f"T{at}", url] for at, url in enumerate(urls)]
        csv.writer(file).writerows([["id", "title", "image_url"], *rows])
    return path


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
