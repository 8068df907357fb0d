"""One process of several, told who it is the way torchrun tells it."""

import os
import socket
from typing import Any

from phisight.core.settings import Recipe


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def train_as(rank: int, ranks: int, port: int, recipe: Recipe, **options: Any) -> None:
    """``train`` as process ``rank`` of ``ranks``."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    from phisight.pipelines.training import train

    train(recipe, **options)
