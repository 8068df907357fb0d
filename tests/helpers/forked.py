"""Processes that are forked from a server with everything imported: what a child does begins at once."""

import contextlib
import multiprocessing as mp
import os
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def start(target: Callable[..., Any], *args: Any, **kwargs: Any) -> BaseProcess:
    """A running process of its own for a function of a module; nothing of this process is in its memory."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["tests.helpers.preloaded"])
    with contextlib.chdir(ROOT):  # the server finds the tests from where it begins
        forkserver.ensure_running()
    process = context.Process(target=target, args=args, kwargs=kwargs)
    process.start()
    return process
