"""Before torch is imported: threads sleep while they wait, so that tests do not fight over cores."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_make_parametrize_id(val: object) -> str | None:
    """A set has one id, whatever order it is in: the workers of a run must collect the same tests."""
    return repr(sorted(val, key=repr)) if isinstance(val, (set, frozenset)) else None
