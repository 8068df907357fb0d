"""The folder of the clone, and the type of the fixture that runs ``phisight`` in a process of its own."""

import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
Command = Callable[..., "subprocess.CompletedProcess[str]"]
