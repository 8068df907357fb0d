"""MLflow: a tracking server or a store on disk."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
from mlflow.tracking import MlflowClient

from phisight.core.run_folder import write_json
from phisight.track.jsonl import recorded_id
from phisight.track.tracker import MLFLOW_ID, Example, Pairs

FOLDER = "mlruns"


class MlflowTracker:
    """Parameters, curves, example images and pairs as artifacts.

    Args:
        tracking_uri: Server or store; None means a file store in RUN/mlruns.
        experiment: Name of the experiment.
        name: Name of the run; None means the name of the run folder.
    """

    def __init__(self, tracking_uri: str | None = None, experiment: str = "phisight", name: str | None = None) -> None:
        self._tracking_uri, self._experiment, self._name = tracking_uri, experiment, name
        self._client: Any = None
        self._run_id = ""

    def start(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        """Open the run, or continue the one whose id RUN/mlflow.json holds."""
        if self._tracking_uri is None:
            # The file store is complete and in maintenance only; the client wants its use to be said.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self._client = MlflowClient(self._tracking_uri or (run_dir / FOLDER).resolve().as_uri())
        id_file = run_dir / MLFLOW_ID
        if id_file.is_file():
            self._run_id = recorded_id(id_file)
            self._client.set_terminated(self._run_id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(self._experiment)
        experiment = found.experiment_id if found else self._client.create_experiment(self._experiment)
        run = self._client.create_run(experiment, run_name=self._name or run_dir.resolve().name)
        self._run_id = run.info.run_id
        write_json(id_file, {"id": self._run_id})
        for name, value in config.items():
            self._client.log_param(self._run_id, name, str(value)[: mlflow.utils.validation.MAX_PARAM_VAL_LENGTH])

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point to each curve."""
        for name, value in metrics.items():
            self._client.log_metric(self._run_id, name, float(value), step=step)

    def log_examples(self, step: int, rows: Sequence[Example], group: str = "") -> None:
        """Add images and a JSON table as artifacts below examples/step-N."""
        folder = f"{group}/examples/step-{step}" if group else f"examples/step-{step}"
        table = [{"key": row.key, "truth": row.truth, "answer": row.answer} for row in rows]
        self._client.log_dict(self._run_id, {"rows": table}, f"{folder}/table.json")
        for position, row in enumerate(rows):
            self._client.log_text(self._run_id, row.answer, f"{folder}/{position}.txt")
            _log_bytes(self._client, self._run_id, row.image, folder, f"{position}.jpg")

    def log_pairs(self, step: int, pairs: Pairs) -> None:
        """Add truth and answer as a JSON artifact."""
        columns = {"truth": list(pairs.truth), "predicted": list(pairs.predicted)}
        self._client.log_dict(self._run_id, columns, f"pairs/{pairs.field}-step-{step}.json")

    def finish(self, summary: Mapping[str, float], artifacts: Mapping[str, Path]) -> None:
        """Add summary and artifacts, close the run."""
        for name, value in summary.items():
            if math.isfinite(value):
                self._client.log_metric(self._run_id, f"final/{name}", float(value))
        for name, path in artifacts.items():
            log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            log(self._run_id, str(path), name)
        self._client.set_terminated(self._run_id)


def _log_bytes(client: Any, run_id: str, data: bytes, folder: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / name
        path.write_bytes(data)
        client.log_artifact(run_id, str(path), folder)
