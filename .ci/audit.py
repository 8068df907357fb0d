"""Known vulnerabilities of the pinned packages, by pip-audit, where its database can be reached; said where not.

python .ci/audit.py PIP_AUDIT constraints.txt
"""

from __future__ import annotations

import json
import subprocess
import sys


def main(pip_audit: str, constraints: str) -> int:
    """0: none known, or not reached; 1: some are known."""
    command = [
        pip_audit,
        "--requirement",
        constraints,
        "--no-deps",
        "--disable-pip",
        "--format",
        "json",
        "--timeout",
        "20",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - what the Makefile names
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"known vulnerabilities: NOT checked, the database cannot be reached ({reason[:160]})")
        return 0
    known = [(one["name"], one.get("version"), issue["id"]) for one in packages for issue in one.get("vulns", [])]
    for name, version, issue in known:
        print(f"{name} {version}: {issue}")
    print(f"known vulnerabilities: {len(known)} in {len(packages)} packages")
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
