"""The sample's own card: ``sample.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from phisight.core.errors import DatasetError
from phisight.core.read_files import read_object
from phisight.core.run_folder import write_text_atomically

SAMPLE = "sample.json"
ATTRIBUTES = "attributes.parquet"
FAULTS = "faults.jsonl"


class SampleCard(BaseModel):
    """What was drawn, by which rule, and how well a model can do at best."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["phisight-sample/1"] = "phisight-sample/1"
    rows: int
    designs: int = Field(description="Groups: a design in all its colors.")
    seed: int
    settings: dict[str, Any] = Field(description="Every setting the sample was drawn with.")
    price_rule: dict[str, Any] = Field(description="How a price follows from what the image shows.")
    best_price_median_ape: float | None = Field(
        description="Median absolute percentage error of the price rule itself on these rows: no model of the image "
        "can be expected below it. None for an imitation, whose rule is not known."
    )
    rejected: int = Field(default=0, description="Imitated rows that lack a field of the task; see rejects.jsonl.")
    faults: dict[str, int] = Field(default_factory=dict, description="Planted faults by kind; faults.jsonl lists them.")

    def write(self, folder: Path) -> None:
        """Write ``sample.json`` into the folder, whole or not at all."""
        write_text_atomically(folder / SAMPLE, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> SampleCard:
        """Read the card; DatasetError when the folder holds no sample."""
        path = folder / SAMPLE
        try:
            return cls.model_validate(read_object(path))
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"{path} cannot be read ({str(error).splitlines()[0]}); "
                f"draw the sample again with `phisight sample make --out {folder}`"
            ) from error
