"""Options of a build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from phisight.core.task import Task
from phisight.data.build.plan.groups import GroupRule
from phisight.data.build.plan.splits import SplitShares
from phisight.data.fetch.limits import FetchLimits
from phisight.data.images.decode import ImageLimits
from phisight.data.values.date_style import Order


@dataclass(frozen=True)
class BuildOptions:
    """Everything but source and folder."""

    image: str | None = None
    further_images: tuple[str, ...] = ()
    """Columns with further images of the product."""
    images_per_key: int | None = None
    """Images of a product at most; None means all."""
    key: str | None = None
    task: Task | None = None
    prompt: str | None = None
    """The prompt of every example where the task is guessed."""
    group: GroupRule = field(default_factory=GroupRule)
    near_duplicates: bool = True
    shares: SplitShares = field(default_factory=SplitShares)
    overwrite: bool = False
    """Replace a data set that was made from another source."""
    own_split: bool = True
    """Honor the table's own split where it has one."""
    split_column: str | None = None
    """The column that says train, validation or test; None: found by its name and values."""
    numbers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """How columns write their numbers, as ``--number`` says it: decimal, thousands, unit."""
    dates: Mapping[str, Order] = field(default_factory=dict)
    """In which order columns write day, month and year, as ``--date`` says it."""
    lists: Mapping[str, str] = field(default_factory=dict)
    """What stands between the entries of columns of lists, as ``--list`` says it."""
    seed: int = 0
    limits: ImageLimits = field(default_factory=ImageLimits)
    fetch: FetchLimits = field(default_factory=FetchLimits)
    engine: str = "local"
    """local, or ray: the same build on a cluster."""
    processes: int | None = None
    """Worker processes; None: by the number of rows."""
    image_root: Path | None = None
    """Folder that local paths begin in; None: the source's."""
    image_fence: Path | None = None
    """Folder that local images must lie in; None: the image root."""
    encoding: str = "utf-8-sig"
    sheet: str | None = None
    """Sheet of a workbook, by name or number from 1."""
