"""What a build is told, and what it says when it is done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from phisight.core.task import Task
from phisight.data.build.finish.findings import Finding
from phisight.data.build.plan.groups import GroupRule
from phisight.data.build.plan.splits import SplitShares
from phisight.data.fetch.limits import FetchLimits
from phisight.data.images.decode import ImageLimits


@dataclass(frozen=True)
class BuildOptions:
    """Everything but source and folder."""

    image: str | None = None
    key: str | None = None
    task: Task | None = None
    prompt: str | None = None
    """Question put to every picture, where the task is guessed."""
    group: GroupRule = field(default_factory=GroupRule)
    near_duplicates: bool = True
    shares: SplitShares = field(default_factory=SplitShares)
    seed: int = 0
    limits: ImageLimits = field(default_factory=ImageLimits)
    fetch: FetchLimits = field(default_factory=FetchLimits)
    engine: str = "local"
    """local, or ray: the same build on a cluster."""
    processes: int | None = None
    """Worker processes; none: by the number of rows."""
    image_root: Path | None = None
    encoding: str = "utf-8-sig"


@dataclass
class BuildResult:
    """What a build did; read = kept + rejected."""

    folder: Path
    read: int
    kept: int
    rejected: Counter[str]
    splits: dict[str, int]
    findings: list[Finding]
    guesses: list[str]
    remarks: list[str]
