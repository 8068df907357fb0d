"""Local images as tables name them: other systems' slashes, ``file://``, percent signs, another case, no ending.

A path begins at ``base`` and its file must lie below ``fence``, links followed. What is there as it is written is
taken; else the text is cleaned, then looked for below the base: by case, by ending, by the last folders of a path of
another machine, by a name that only one file has. Everything but the first is counted in ``remarks``.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes

from phisight.data.images.image_names import IMAGE_SUFFIXES
from phisight.data.images.rejection import Rejection

_FILE = re.compile(r"file:(?://(?:localhost)?(?=/)|//(?=[A-Za-z]:))?", re.IGNORECASE)
_DRIVE = re.compile(r"/?[A-Za-z]:(?=[/\\])")
_MOST_INDEXED = 2_000_000
_HOW = {
    "written": "are written in another way (backslashes, file://, percent signs, quotes, a query): cleaned",
    "case": "differ from the file's name in upper and lower case or accents",
    "ending": "have no ending: the file's was added",
    "tail": "are of another machine: the last folders were found here",
    "name": "are names without a folder: found where only one file has the name",
}


class LocalFiles:
    """Files below a folder, found by what a table calls them."""

    def __init__(self, base: Path, fence: Path | None = None) -> None:
        self.base = base
        self._fence = (fence or _snapshot(base) or base).resolve()
        self._listings: dict[Path, _Listing] = {}
        self._tree: dict[str, list[Path]] | None = None
        self._counts: Counter[str] = Counter()

    @property
    def remarks(self) -> list[str]:
        """How many paths were found otherwise than they are written, by kind."""
        return [f"{self._counts[how]} paths {text}" for how, text in _HOW.items() if self._counts[how]]

    def find(self, text: str) -> Path:
        """The file, links resolved; Rejection when there is none, when two could be meant, or it lies outside."""
        if "\0" in text:
            raise Rejection("missing_file", "the path holds a NUL byte")
        try:
            found, how = self._found(text)
        except (OSError, RuntimeError, ValueError) as error:
            raise Rejection("missing_file", "the path cannot be followed") from error
        if how:
            self._counts[how] += 1
        return found

    def has(self, text: str) -> bool:
        """Whether there is such a file."""
        try:
            self._found(text)
        except (Rejection, OSError, RuntimeError, ValueError):
            return False
        return True

    def place_of(self, path: Path) -> str:
        """A found file relative to the base, else to the fence."""
        base = self.base.resolve()
        return path.relative_to(base if path.is_relative_to(base) else self._fence).as_posix()

    def _found(self, text: str) -> tuple[Path, str]:
        outside = False
        for at, form in enumerate(_forms(text)):
            path = (self.base / form).resolve()
            if not path.is_relative_to(self._fence):
                outside = True
            elif path.is_file():
                return path, "written" if at else ""
        parts = _parts(form)
        if ".." not in parts:
            for path, how in self._alike(parts, foreign=form.startswith("/")):
                if path.resolve().is_relative_to(self._fence):
                    return path.resolve(), how
                outside = True
        if outside:
            raise Rejection(
                "outside_root",
                f"the path leads out of the folder {self._fence.name!r}; name another with --image-root, or allow "
                "files of a folder above with --image-fence",
            )
        raise Rejection("missing_file", f"there is no file {text[:200]!r} in the folder {self.base.resolve().name!r}")

    def _alike(self, parts: list[str], foreign: bool) -> Iterator[tuple[Path, str]]:
        if not parts:
            return
        for start in range(len(parts) if foreign else 1):
            yield from self._walk(parts[start:], "tail" if foreign else "")
        if foreign or len(parts) > 1:
            return  # a file of that name in another folder would be another image
        names = self._named(parts[-1])
        if len(names) > 1:
            raise Rejection("missing_file", f"{len(names)} files are called {parts[-1][:100]!r}; write the folder, too")
        yield from ((path, "name") for path in names)

    def _walk(self, parts: list[str], how: str) -> Iterator[tuple[Path, str]]:
        """The file that the parts lead to, where case, accents and the ending may differ."""
        folder = self.base
        for part in parts[:-1]:
            if (folder / part).is_dir():
                folder = folder / part
                continue
            same = [name for name in self._listing(folder).same(part) if (folder / name).is_dir()]
            if len(same) != 1:
                return
            folder, how = folder / same[0], how or "case"
        listing = self._listing(folder)
        for found, kind in ((listing.same(parts[-1]), "case"), (listing.without_ending(parts[-1]), "ending")):
            files = [folder / name for name in found if (folder / name).is_file()]
            exact = [file for file in files if file.name == parts[-1]]
            if len(exact or files) == 1:
                yield (exact or files)[0], how or kind
                return
            if files:
                raise Rejection("missing_file", f"{len(files)} files could be {parts[-1][:100]!r}; write it as it is")

    def _listing(self, folder: Path) -> _Listing:
        if folder not in self._listings:
            self._listings[folder] = _Listing(folder)
        return self._listings[folder]

    def _named(self, name: str) -> list[Path]:
        """All files below the base of that name, case and accents aside; an ending may be missing."""
        if self._tree is None:
            self._tree = defaultdict(list)
            count = 0
            for folder, folders, names in os.walk(self.base):
                folders[:] = sorted(one for one in folders if not one.startswith("."))
                for one in names:
                    for alias in {_plain(one), _plain(_stem(one))}:
                        self._tree[alias].append(Path(folder, one))
                count += len(names)
                if count > _MOST_INDEXED:
                    break
        return self._tree.get(_plain(name), [])


class _Listing:
    """Names in one folder, found without regard to case and accents."""

    def __init__(self, folder: Path) -> None:
        self._same: dict[str, list[str]] = defaultdict(list)
        self._stems: dict[str, list[str]] = defaultdict(list)
        for name in sorted(os.listdir(folder)) if folder.is_dir() else []:  # noqa: PTH208 - names, in order
            self._same[_plain(name)].append(name)
            if _stem(name) != name:
                self._stems[_plain(_stem(name))].append(name)

    def same(self, name: str) -> list[str]:
        """Names that are the same but for case and accents' encoding."""
        return self._same.get(_plain(name), [])

    def without_ending(self, name: str) -> list[str]:
        """Names of images that are the same but for their ending."""
        return self._stems.get(_plain(name), [])


def _stem(name: str) -> str:
    """A name without the ending of an image; any other name as it is."""
    stem, ending = os.path.splitext(name)  # noqa: PTH122
    return stem if ending.lower() in IMAGE_SUFFIXES else name


def _plain(name: str) -> str:
    """A name to compare: composed, without case; bytes that are no UTF-8 read as Western."""
    try:
        name.encode()
    except UnicodeEncodeError:
        name = os.fsencode(name).decode("cp1252", "replace")
    return unicodedata.normalize("NFC", name).casefold()


def _forms(text: str) -> list[str]:
    """The text, and what it becomes as each way of writing is undone."""
    forms = [text]

    def then(form: str) -> None:
        if form != forms[-1]:
            forms.append(form)

    then(text.strip("'\"<> \t"))
    if match := _FILE.match(forms[-1]):
        then(os.fsdecode(unquote_to_bytes(forms[-1][match.end() :].encode("utf-8", "surrogateescape"))))
    then(forms[-1].replace("\\", "/"))
    then(_DRIVE.sub("", forms[-1]))
    then(re.sub(r"[?#].*", "", forms[-1], flags=re.DOTALL))
    if "%" in forms[-1]:
        then(os.fsdecode(unquote_to_bytes(forms[-1].encode("utf-8", "surrogateescape"))))
    return forms


def _parts(form: str) -> list[str]:
    return [part for part in form.split("/") if part not in ("", ".")]


def _snapshot(base: Path) -> Path | None:
    """The folder of a data set in the hub's cache, whose snapshots are links to its blobs."""
    for parent in base.absolute().parents:
        if parent.name == "snapshots" and (parent.parent / "blobs").is_dir():
            return parent.parent
    return None
