"""Builds sdist and wheel into dist/, and tries the wheel away from the clone.

    python .ci/dist.py build    dist/phisight-VERSION.tar.gz, and the wheel made of it, which holds every file of src/
    python .ci/dist.py try      the wheel in a new environment beside this one's packages; there: phisight demo --quick

The wheel is made of the unpacked sdist, so both are whole or neither is. Nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
HOOK = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def run(*command: str | Path, cwd: Path, keep: bool = False) -> str:
    """Run a command without the clone on its path; its last line where it is kept, else it is shown."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    words = [str(word) for word in command]
    if not keep:
        subprocess.run(words, cwd=cwd, env=environment, check=True)  # noqa: S603
        return ""
    done = subprocess.run(words, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return done.stdout.strip().splitlines()[-1]


def build() -> None:
    """Sdist, then wheel."""
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    sdist = DIST / run(sys.executable, "-c", HOOK, "build_sdist", DIST, cwd=ROOT, keep=True)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        (source,) = Path(folder).iterdir()
        wheel = DIST / run(sys.executable, "-c", HOOK, "build_wheel", DIST, cwd=source, keep=True)
    lacking = missing(wheel)
    if lacking:
        sys.exit(f"{wheel.name} lacks {', '.join(lacking)}: see package-data in pyproject.toml")
    for made in (sdist, wheel):
        print(f"{made.relative_to(ROOT)}  {made.stat().st_size / 1e6:.1f} MB")


def missing(wheel: Path) -> list[str]:
    """Files below src/ that the wheel does not hold."""
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    files = (path for path in (ROOT / "src" / "phisight").rglob("*") if path.is_file())
    names = {path.relative_to(ROOT / "src").as_posix() for path in files if "__pycache__" not in path.parts}
    return sorted(names - held)


def try_out() -> None:
    """Install the wheel into an environment that sees the packages of this one, and run the demo there."""
    (wheel,) = DIST.glob("phisight-*.whl")
    with tempfile.TemporaryDirectory(prefix="phisight-wheel-") as name:
        folder = Path(name)
        run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
        python = folder / "venv" / "bin" / "python"
        site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder, keep=True))
        (site / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
        pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", python)
        run(*pip, "install", "--no-deps", "--no-index", "--ignore-installed", wheel, cwd=folder)
        home = Path(run(python, "-c", "import phisight; print(phisight.__file__)", cwd=folder, keep=True))
        if not home.is_relative_to(folder.resolve()):
            sys.exit(f"{home} is not the wheel's phisight")
        command = folder / "venv" / "bin" / "phisight"
        run(command, "demo", "--quick", "--out", folder / "demo", cwd=folder)
        report = folder / "demo" / "report.html"
        if not report.is_file():
            sys.exit(f"the demo left no {report.name}")
    print(f"{wheel.name}: phisight demo --quick ran away from the clone")


if __name__ == "__main__":
    {"build": build, "try": try_out}[sys.argv[1]]()
