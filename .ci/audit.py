"""Known vulnerabilities of the pinned packages, by pip-audit, where its database can be reached; said where not.

python .ci/audit.py PIP_AUDIT constraints.txt
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

_UNREACHABLE = re.compile(
    r"ConnectionError|ConnectTimeout|ReadTimeout|NewConnectionError|ProxyError|SSLError|ServiceError|Max retries"
    r"|Temporary failure in name resolution|Name or service not known|timed out|Network is unreachable|"
    r"(?:403|407|50\d) (?:Client|Server) Error",
)
"""What pip-audit and the libraries below it say where no answer came."""


def main(pip_audit: str, constraints: str) -> int:
    """0: none known, or the database cannot be reached; 1: some are known; 2: the check itself failed."""
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
        known = [(one["name"], one.get("version"), issue["id"]) for one in packages for issue in one.get("vulns", [])]
    except (ValueError, KeyError, TypeError, AttributeError):
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:160]
        if done.returncode and _UNREACHABLE.search(done.stderr):
            print(f"known vulnerabilities: NOT checked, the database cannot be reached ({reason})")
            return 0
        print(f"known vulnerabilities: NOT checked, pip-audit failed with code {done.returncode} ({reason})")
        return 2
    for name, version, issue in known:
        print(f"{name} {version}: {issue}")
    print(f"known vulnerabilities: {len(known)} in {len(packages)} packages")
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
