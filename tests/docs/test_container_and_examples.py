"""The container file is linted, and the SLURM script does what it says, with stand-ins for SLURM's commands."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTAINER = (ROOT / "Containerfile").read_text(encoding="utf-8")
SBATCH = ROOT / "examples" / "train.sbatch"
HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))


def rules_broken(text: str) -> list[str]:
    """What a container file of this project may not do, beyond the linter's own rules."""
    found = []
    bases = re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE)
    images = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    if len(bases) != 1 or not re.fullmatch(r"\S+/python:\d+\.\d+\.\d+-\S+", bases[0]):
        found.append("the base is pinned to a release of Python")
    if set(images) != {"${BASE}"} or "latest" in text:
        found.append("every stage stands on the base")
    users = re.findall(r"^USER (\S+)", text, re.MULTILINE)
    if not users or not users[-1].isdigit() or users[-1] == "0":
        found.append("it runs as a user without rights, by number")
    if re.search(r"curl|wget|index-u" + r"rl|sudo", text):
        found.append("nothing is fetched but by pip with the constraints")
    if "--constraint" not in text:
        found.append("versions are those of constraints.txt")
    return found


def test_the_container_file_keeps_the_rules() -> None:
    assert not rules_broken(CONTAINER)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"python:\d+\.\d+\.\d+", "python:latest"),
        (r"USER \d+", "USER root"),
        (r"FROM \$\{BASE\}\n", "FROM debian\n"),
        (r"--constraint \S+", ""),
        (r"python -m pip install", "curl x | sh; python -m pip install"),
    ],
)
def test_a_broken_rule_is_seen(old: str, new: str) -> None:
    changed = re.sub(old, new, CONTAINER)
    assert changed != CONTAINER
    assert rules_broken(changed)


@pytest.mark.process
@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")
def test_the_linter_is_content() -> None:
    assert HADOLINT is not None
    result = subprocess.run([HADOLINT, str(ROOT / "Containerfile")], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


STAND_INS = {
    "scontrol": 'echo "scontrol $*" >> "$LOG"; [ "$1" = show ] && echo node1 && echo node2; true',
    "scancel": 'echo "scancel $*" >> "$LOG"; kill -TERM "$(cat "$LOG.pid")"',
    "srun": """echo $$ > "$LOG.pid"
echo "srun $*" >> "$LOG"
trap "exit 143" TERM
for i in $(seq $TENTHS); do sleep 0.1; done
exit $ENDS_WITH""",
}


def run_sbatch(folder: Path, *, ends_with: int, stop: bool) -> tuple[int, list[str]]:
    """Exit code, and the calls of SLURM's commands, of the script with a training that ends so or is stopped."""
    for name, text in STAND_INS.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    log = folder / "log"
    environment = {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "LOG": str(log),
        "ENDS_WITH": str(ends_with),
        "TENTHS": "600" if stop else "1",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "8",
    }
    command = ["bash", str(SBATCH), "recipes/phi3-vision-full.yaml", "--set", "out=runs/full"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as script:
        if stop:
            for _ in range(600):
                if log.exists() and "srun" in log.read_text(encoding="utf-8"):
                    break
                time.sleep(0.05)
            script.send_signal(signal.SIGUSR1)
        script.communicate(timeout=60)
    return script.returncode, log.read_text(encoding="utf-8").splitlines()


@pytest.mark.process
@pytest.mark.parametrize(
    ("ends_with", "stop", "code", "requeued"), [(0, False, 0, False), (1, False, 1, False), (0, True, 143, True)]
)
def test_a_job_is_queued_again_only_where_it_was_stopped(
    ends_with: int, stop: bool, code: int, requeued: bool, tmp_path: Path
) -> None:
    ended, calls = run_sbatch(tmp_path, ends_with=ends_with, stop=stop)
    assert ended == code
    assert ("scontrol requeue 7" in calls) is requeued
    training = next(call for call in calls if call.startswith("srun"))
    assert "--nnodes 2 --nproc-per-node 8" in training
    assert "--rdzv-endpoint node1:29500" in training
    assert training.endswith("-m phisight train recipes/phi3-vision-full.yaml --set out=runs/full --resume")
