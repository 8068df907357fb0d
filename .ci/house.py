"""Count how far a reader walks: modules per package, basenames for two things, files from command to loss.

    PYTHONPATH=src python .ci/house.py

The files that an image crosses in ``phisight train``: those with a function on the call stack where it is decoded,
becomes crops, is put into a batch, passes the tower and reaches the first loss, of a small model on drawn products.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

SOURCE = Path(__file__).parents[1] / "src" / "phisight"


STATIONS = (
    "data/images/decode.py",
    "model/image_processing.py",
    "train/examples/collators.py",
    "model/vision.py",
    "train/losses/supervised.py:loss_of_outputs",
)
"""Where an image becomes something else: any function of a file, or a named one."""


class Reached(Exception):  # noqa: N818 - not an error
    """The loss is reached."""


def crossed_files() -> list[str]:
    """Own files that an image crosses in a training step, in the order of their first call."""
    from phisight.cli import main
    from phisight.sample.catalogue.presets import preset
    from phisight.sample.draw_catalogue import make

    seen: dict[str, None] = {}

    def watch(frame: FrameType, event: str, _argument: Any) -> None:
        file = own_file(frame)
        if event != "call" or not {file, f"{file}:{frame.f_code.co_name}"} & set(STATIONS):
            return
        stack = list(own_files(frame))
        if "train/loop.py" in stack:  # not the checks before
            seen.update(dict.fromkeys(reversed(stack)))
            if file == STATIONS[-1].partition(":")[0]:
                raise Reached

    with tempfile.TemporaryDirectory() as folder:
        make(24, Path(folder) / "data", seed=0, settings=preset("demo"))
        settings = (f"data.path={folder}/data", f"out={folder}/run", "train.steps=1", "train.answer_rows=0")
        recipe = SOURCE.parents[1] / "recipes" / "tiny-scratch.yaml"
        sys.argv = ["phisight", "train", str(recipe), *(part for one in settings for part in ("--set", one))]
        sys.setprofile(watch)
        try:
            main()
        except Reached:
            pass
        finally:
            sys.setprofile(None)
    return list(seen)


def own_file(frame: FrameType) -> str:
    """The file of a running function, below ``src/phisight``; empty for others and for modules being imported."""
    name = frame.f_code.co_filename
    ours = name.startswith(str(SOURCE)) and frame.f_code.co_flags & inspect.CO_OPTIMIZED
    return Path(name).relative_to(SOURCE).as_posix() if ours else ""


def own_files(frame: FrameType | None) -> Iterator[str]:
    """Those of the functions on the stack, the innermost first."""
    while frame is not None:
        if file := own_file(frame):
            yield file
        frame = frame.f_back


if __name__ == "__main__":
    modules = [path for path in SOURCE.rglob("*.py") if path.name != "__init__.py"]
    counts = Counter(path.parent.relative_to(SOURCE).as_posix() for path in modules)
    print("modules per package:", ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    pair = {"cli", "workflows"}
    names = {name: [path.parent for path in modules if path.stem == name] for name in {path.stem for path in modules}}
    twice = [name for name, at in names.items() if len(at) > 1 and {path.name for path in at} != pair]
    print("basenames for two things, a command's pair left out:", sorted(twice) or "none")
    crossed = crossed_files()
    print(f"{len(crossed)} own files from `phisight train` to the loss:", " ".join(crossed))
