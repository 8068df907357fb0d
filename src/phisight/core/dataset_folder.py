"""The data set folder: names of its files and of the columns phisight adds, and its card.

    DIR/images/...          one image a row
    DIR/metadata.parquet    the table: file_name, the source's own columns, the added columns below
    DIR/dataset.json        the card: task, counts, splits, where it came from
    DIR/rejects.jsonl       one line for each row that did not make it, with the reason

``datasets.load_dataset("imagefolder", data_dir=DIR)`` opens the folder as it is: ``file_name`` is relative to DIR.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from phisight.core.errors import DatasetError
from phisight.core.migrations import DATASET_FORMAT, require_format, translate
from phisight.core.read_files import read_object
from phisight.core.run_folder import IMAGES as IMAGES
from phisight.core.run_folder import write_text_atomically
from phisight.core.task import Task

METADATA = "metadata.parquet"
CARD = "dataset.json"
REJECTS = "rejects.jsonl"

FILE_NAME = "file_name"
"""str: path of the image, relative to the folder."""
SPLIT = "split"
"""str: one of SPLITS."""
GROUP = "group"
"""str: rows with one group stay in one split (same product, near-duplicate image)."""
SHA256 = "image_sha256"
"""str: SHA-256 of the stored file, in hex."""
WIDTH, HEIGHT = "image_width", "image_height"
"""int: pixels of the stored file."""

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class DatasetCard(BaseModel):
    """What ``dataset.json`` holds."""

    model_config = ConfigDict(extra="allow")

    format: Literal["phisight-dataset/1"] = DATASET_FORMAT
    task: Task
    key: str = Field(description="Column that names a product.")
    rows: int = Field(description="Rows in metadata.parquet.")
    rejected: int = Field(default=0, description="Rows in rejects.jsonl.")
    splits: dict[str, int] = Field(description="Rows in each split.")
    source: dict[str, Any] = Field(default_factory=dict, description="Where the rows came from.")

    def write(self, folder: Path) -> None:
        """Write ``dataset.json`` into the folder, whole or not at all."""
        write_text_atomically(folder / CARD, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> DatasetCard:
        """Read the card; DatasetError when the folder is not a data set folder."""
        path = folder / CARD
        if not folder.exists():
            raise DatasetError(
                f"there is no folder {folder}; correct the path of the data set (data.path), "
                f"or make one there with `phisight data build SOURCE --out {folder}`"
            )
        if not path.is_file():
            raise DatasetError(
                f"{folder} is not a data set folder: it has no {CARD}; "
                f"make one with `phisight data build {folder} --out DIR`"
            )
        try:
            values = read_object(path)
            require_format(values.get("format"), DATASET_FORMAT, path, DatasetError)
            values = translate("dataset", values)
            return cls.model_validate(values)
        except DatasetError:
            raise
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"{path} cannot be read: {str(error).splitlines()[0]}; build the folder again"
            ) from error
