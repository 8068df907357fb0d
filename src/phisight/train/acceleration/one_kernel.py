"""Chains of elementwise operations as one kernel each, on a GPU.

There an elementwise operation costs the time that its tensors take to go through memory: SwiGLU's backward pass as
written reads and writes them eight times over. torch.compile makes one Triton kernel of a chain, in seconds and twice:
the second length makes lengths a symbol; widths stay numbers (as symbols they cost a division for each value). On a
CPU the chains run as written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

_LOG = logging.getLogger(__name__)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result", Tensor, tuple[Tensor, Tensor])


def one_kernel(chain: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """``chain``, compiled for tensors on a GPU; as written where the compiler fails, with one warning.

    A chain computes no gradients itself: it runs within an ``autograd.Function``.
    """
    compiled: list[Callable[Arguments, Result]] = []
    failed: list[BaseException] = []

    @wraps(chain)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if failed or not on_gpu(args[0]):
            return chain(*args, **kwargs)
        if not compiled:  # the compiler takes seconds to import
            compiled.append(torch.compile(chain))
        try:
            return compiled[0](*args, **kwargs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # no C compiler, no Triton, an unknown card: slower, not wrong
            failed.append(error)
            _LOG.warning(
                "%s runs as written, which is slower: torch.compile failed (%s)",
                chain.__name__,
                " ".join(str(error).split())[:200],
            )
            return chain(*args, **kwargs)

    return call


def on_gpu(tensor: Any) -> bool:
    """Whether elementwise chains over this tensor are worth one kernel."""
    return isinstance(tensor, Tensor) and tensor.is_cuda
