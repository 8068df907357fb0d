"""Print the lower bounds of pyproject.toml as exact requirements, and what is needed to run the tests with them."""

import re
import tomllib
from pathlib import Path

TEST_TOOLS = ("pytest", "hypothesis")


def main() -> None:
    """Turn each ``name>=version`` into ``name==version``; a dependency without a lower bound is an error."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tools = [line for line in project["optional-dependencies"]["dev"] if line.startswith(TEST_TOOLS)]
    for requirement in [*project["dependencies"], *tools]:
        bound = re.fullmatch(r"([A-Za-z0-9._\[\],-]+?)>=([0-9.]+)(,[<!][^;]*)?", requirement)
        if bound is None:
            raise SystemExit(f"{requirement!r} in pyproject.toml has no lower bound; write it as name>=version")
        print(f"{bound[1]}=={bound[2]}")


if __name__ == "__main__":
    main()
