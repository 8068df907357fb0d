"""Trackers by name, several at once, one that fails."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from phisight.core.errors import MissingExtraError, SettingsError
from phisight.track import TRACKERS, CompositeTracker, JsonlTracker, open_tracker, read_metrics


class Broken(JsonlTracker):
    """Loses its connection at the second figure."""

    calls = 0

    def log(self, step: int, metrics: Any) -> None:
        self.calls += 1
        raise ConnectionError("no route to host")


def test_a_tracker_that_fails_is_named_once_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken, fine = Broken(), JsonlTracker()
    tracker = CompositeTracker(JsonlTracker(), {"cloud": broken, "other": fine})
    tracker.start(tmp_path, {})
    with caplog.at_level(logging.WARNING):
        tracker.log(1, {"loss": 1.0})
        tracker.log(2, {"loss": 0.5})
    assert broken.calls == 1
    assert caplog.text.count("tracker cloud failed (ConnectionError: no route to host)") == 1
    assert tracker.active == ["other"]
    assert read_metrics(tmp_path)["loss"] == [(1, 1.0), (2, 0.5)]


def test_a_run_folder_that_cannot_be_written_is_raised(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match="taken"):
        open_tracker().start(tmp_path / "taken", {})


def test_a_typo_gets_the_nearest_name() -> None:
    with pytest.raises(SettingsError, match="'wandbb'; did you mean 'wandb'"):
        open_tracker(["wandbb"])
    with pytest.raises(SettingsError, match="no setting 'entty'; did you mean 'entity'"):
        open_tracker(["wandb"], {"wandb": {"entty": "me"}})


def test_a_package_that_is_not_there_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.delitem(sys.modules, "phisight.track.tensorboard_tracker", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'phisight\[tensorboard\]'"):
        open_tracker(["tensorboard"])


@pytest.mark.process
def test_nothing_heavy_is_imported_until_named() -> None:
    heavy = ["torch", "mlflow", "tensorboardX", *TRACKERS]
    code = f"import sys, phisight.track; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
