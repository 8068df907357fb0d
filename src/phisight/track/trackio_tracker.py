"""trackio: a local-first dashboard with the calls of wandb."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import trackio
from PIL import Image

from phisight.track.tracker import Example, Pairs


class TrackioTracker:
    """Configuration, curves and example tables in trackio's local store (TRACKIO_DIR); no Space unless named.

    Args:
        project: Name of the project.
        name: Name of the run; None means the name of the run folder. A second process continues the run of that name.
        space_id: A Hugging Face Space to send to; None means that nothing leaves the machine.
    """

    def __init__(self, project: str = "phisight", name: str | None = None, space_id: str | None = None) -> None:
        self._project, self._name, self._space_id = project, name, space_id
        self._run: Any = None

    def start(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        """Open the run or continue it."""
        self._run = trackio.init(
            project=self._project,
            name=self._name or run_dir.resolve().name,
            space_id=self._space_id,
            config=dict(config),
            resume="allow",
            embed=False,
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add figures at a step."""
        trackio.log(dict(metrics), step=step)

    def log_examples(self, step: int, rows: Sequence[Example], group: str = "") -> None:
        """Add the table ``examples``."""
        images = [trackio.Image(Image.open(io.BytesIO(row.image)).convert("RGB"), caption=row.key) for row in rows]
        columns = {
            "key": [row.key for row in rows],
            "image": images,
            "truth": [row.truth for row in rows],
            "answer": [row.answer for row in rows],
        }
        import pandas as pd

        name = f"{group}/examples" if group else "examples"
        trackio.log({name: trackio.Table(dataframe=pd.DataFrame(columns))}, step=step)

    def log_pairs(self, step: int, pairs: Pairs) -> None:
        """Add truth and answer as a table."""
        import pandas as pd

        frame = pd.DataFrame({"truth": list(pairs.truth), "answer": list(pairs.predicted)})
        trackio.log({f"{pairs.field}_pairs": trackio.Table(dataframe=frame)}, step=step)

    def finish(self, summary: Mapping[str, float], artifacts: Mapping[str, Path]) -> None:  # noqa: ARG002
        """Add the summary, close the run; trackio keeps no artifacts of a local run."""
        trackio.log({f"final/{name}": value for name, value in summary.items()})
        trackio.finish()
