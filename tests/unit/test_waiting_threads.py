"""How threads wait for each other: shortly, then asleep, unless whoever calls the command has said how."""

import os
import sys

import pytest

from phisight.cli import KERNELS, SPINS, main, set_process_defaults


@pytest.mark.parametrize(
    "given", [{}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "9"}, {"OMP_WAIT_POLICY": "", "GOMP_SPINCOUNT": ""}]
)
def test_what_is_set_stays(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "as it was")  # so that it is taken back
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["phisight", "--version"])
    with pytest.raises(SystemExit):
        main()
    wanted = given or {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": SPINS}
    found = {name: os.environ[name] for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT") if name in os.environ}
    assert found == wanted


@pytest.mark.parametrize(("given", "wanted"), [(None, KERNELS), ("17", "17")])
def test_kernels_that_are_kept(given: str | None, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, given or "")
    if given is None:
        monkeypatch.delenv(name)
    set_process_defaults()
    assert os.environ[name] == wanted
