"""Weights & Biases: offline unless asked for more; entity and project come from settings, never from here.

What it gets: configuration, curves, system figures, a table of images with truth and answer at each evaluation, the
confusion matrix, the price scatter, and the data set and best model as artifacts with the aliases ``best`` and
``latest``. Online the data set is the run's input, which draws the lineage; offline the client takes outputs only, so
there it is one of them. The run's id is kept in RUN/wandb.json, so a second process that starts on
the same folder continues the same run. An offline run is sent later with ``wandb sync RUN/wandb/offline-run-*``.
"""

from __future__ import annotations

import io
import logging
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from phisight.core.run_folder import write_json
from phisight.track.jsonl import recorded_id
from phisight.track.tracker import WANDB_ID, Example, Pairs

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # nothing is sent unless asked for, crash reports neither
import wandb

_KINDS = {"dataset": "dataset", "model": "model", "best": "model"}

_LOG = logging.getLogger(__name__)


class WandbTracker:
    """Adapter of the wandb client.

    Args:
        mode: ``offline`` (no account, no network) or ``online``.
        project: Project on the server.
        entity: User or team; None means the account's default.
        name: Shown name of the run; None means the name of the run folder.
        group: Groups runs on the server.
        tags: Words to filter runs by.
        upload_model: Send the checkpoint as an artifact, too (it is large).
        init_timeout: Seconds to wait for the server before continuing offline.
        finish_timeout: Seconds to wait at the end for what is still being sent; after that it is in the files only.
    """

    def __init__(
        self,
        mode: Literal["offline", "online"] = "offline",
        project: str | None = None,
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        upload_model: bool = True,
        init_timeout: float = 60.0,
        finish_timeout: float = 600.0,
    ) -> None:
        self._mode = mode
        self._where: dict[str, Any] = {"project": project, "entity": entity, "group": group, "tags": list(tags)}
        self._name = name
        self._upload_model = upload_model
        self._timeouts = {"init_timeout": init_timeout, "finish_timeout": finish_timeout}
        self._run: Any = None

    def start(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        """Open the run or continue it; a server that does not answer turns the run into an offline one."""
        goes_on = (run_dir / WANDB_ID).is_file()
        run_id = _run_id(run_dir)
        try:
            self._run = self._init(run_dir, config, run_id, self._mode)
        except Exception as error:
            if self._mode == "offline":
                raise
            _LOG.warning(
                "Weights & Biases cannot be reached (%s); continuing offline, send it later with: wandb sync %s%s",
                " ".join(str(error).split())[:200],
                f"--id {run_id} " if goes_on else "",
                run_dir / "wandb" / "offline-run-*",
            )
            # The client keeps the id of the run it could not open; an offline run needs one of its own. The run that
            # was to continue stays the one that the next process continues.
            new = secrets.token_hex(4) if goes_on else _new_run_id(run_dir)
            self._run = self._init(run_dir, config, new, "offline")

    def _init(self, run_dir: Path, config: Mapping[str, Any], run_id: str, mode: Literal["offline", "online"]) -> Any:
        name = self._name or run_dir.resolve().name
        settings = wandb.Settings(
            console="off",
            disable_git=True,
            save_code=False,
            silent=True,
            finish_timeout_raises=True,
            **self._timeouts,
        )
        run = wandb.init(
            **self._where,
            name=name,
            dir=str(run_dir),
            id=run_id,
            resume="allow",
            mode=mode,
            config=dict(config),
            settings=settings,
        )
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
        return run

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add figures; ``step`` is the x axis of every curve."""
        self._run.log({**metrics, "step": step})

    def log_examples(self, step: int, rows: Sequence[Example], group: str = "") -> None:
        """Add the table ``examples`` (key, image, truth, answer, equal) and the panel ``images`` (step slider), or
        ``GROUP/examples`` and ``GROUP/images``.
        """
        table = wandb.Table(columns=["key", "image", "truth", "answer", "equal"])
        images = []
        for row in rows:
            caption = f"truth: {row.truth}\nanswer: {row.answer}"
            image = wandb.Image(Image.open(io.BytesIO(row.image)), caption=caption, file_type="jpg")
            table.add_data(row.key, image, row.truth, row.answer, row.truth == row.answer)
            images.append(image)
        prefix = f"{group}/" if group else ""
        self._run.log({f"{prefix}examples": table, f"{prefix}images": images, "step": step})

    def log_pairs(self, step: int, pairs: Pairs) -> None:
        """Add the confusion matrix or scatter of a field."""
        if pairs.kind == "number":
            table = wandb.Table(columns=["truth", "answer"], data=list(zip(pairs.truth, pairs.predicted, strict=True)))
            plot = wandb.plot.scatter(table, "truth", "answer", title=f"{pairs.field}: truth and answer")
            self._run.log({f"{pairs.field}_scatter": plot, "step": step})
            return
        names = sorted({str(value) for value in [*pairs.truth, *pairs.predicted]})
        index = {name: position for position, name in enumerate(names)}
        plot = wandb.plot.confusion_matrix(
            y_true=[index[str(value)] for value in pairs.truth],
            preds=[index[str(value)] for value in pairs.predicted],
            class_names=names,
            title=f"{pairs.field}: truth and answer",
        )
        self._run.log({f"{pairs.field}_confusion": plot, "step": step})

    def finish(self, summary: Mapping[str, float], artifacts: Mapping[str, Path]) -> None:
        """Add summary and artifacts, close the run."""
        self._run.summary.update(dict(summary))
        for name, path in artifacts.items():
            kind = _KINDS.get(name, "result")
            if kind == "model" and not self._upload_model:
                continue
            # Runs on one data set share its artifact, which is what draws the lineage; a model belongs to its run.
            full = f"dataset-{path.resolve().name}" if kind == "dataset" else f"{self._run.id}-{name}"
            artifact = wandb.Artifact(re.sub(r"[^\w.-]+", "-", full), type=kind)
            if path.is_dir():
                artifact.add_dir(str(path))
            else:
                artifact.add_file(str(path))
            if kind == "dataset" and not self._run.offline:
                self._run.use_artifact(artifact)
            else:
                self._run.log_artifact(artifact, aliases=["latest", "best"] if name == "best" else ["latest"])
        self._run.finish()


def _run_id(run_dir: Path) -> str:
    """The id kept in the run folder, or a new one, kept from now on."""
    path = run_dir / WANDB_ID
    if path.is_file():
        return recorded_id(path)
    return _new_run_id(run_dir)


def _new_run_id(run_dir: Path) -> str:
    run_id = secrets.token_hex(4)
    write_json(run_dir / WANDB_ID, {"id": run_id})
    return run_id
