"""Every error a user can cause, in one tree.

    PhisightError                     one line: what, both numbers, where, likely cause, repair
    ├── SettingsError                 a recipe or a flag that cannot be used (unknown key, wrong type)
    ├── TaskError                     a task whose template and fields do not fit each other or the table
    ├── MissingExtraError             an optional dependency that is not installed
    ├── StorageError                  a file that cannot be written: no room, no permission
    ├── UnreadableFileError           a recipe, or a file of a run or data set, that is damaged, cut or too large
    ├── DataError
    │   ├── SourceError               a table, folder or data set that cannot be read
    │   ├── ImageError                one image
    │   │   ├── MissingImageError     the file is not there
    │   │   ├── UnreadableImageError  the bytes are no image, or only half of one
    │   │   └── ElongatedImageError   too long and thin for the crop grid
    │   ├── Rejection                 why an image or row is kept out (data/images/rejection.py)
    │   ├── EmptyFieldError           a field the task needs holds nothing
    │   └── DatasetError              a data set folder that is not one, or is damaged
    │       └── ChangedImageError     a stored image that is not the one the table records
    ├── SampleError                   a sample that cannot be drawn as asked
    ├── ModelError
    │   ├── CheckpointError           missing, extra or mis-shaped tensors; files that do not fit the model
    │   ├── ImageTagError             image tags and images do not match
    │   ├── ImagePlaceholderError     image placeholders in the ids and image features do not match
    │   └── TruncationError           shortening would cut an image
    ├── TrainError
    │   ├── ImageCheckError           a different image does not change the loss
    │   ├── FeatureCacheError         stored features that cannot be read
    │   ├── NonFiniteLossError        the loss became NaN or infinite
    │   ├── MemoryLimitError          a step does not fit into the memory of the device
    │   ├── WorkerError               a process that prepares images died
    │   ├── RankError                 another process of the run ended or does not answer
    │   └── StoppedError              a signal asked training to stop
    ├── EvaluationError               answers that cannot be scored
    ├── EngineError                   a server or cluster that answers nobody
    ├── ApiError                      a request that the server refuses (serve/protocol/api_error.py)
    └── RunError                      a run folder without what was asked of it

The command line prints these as one line and exits with 1, or 128 + the signal that stopped it; anything else is a
fault of phisight and keeps its traceback. Most errors about values are ``ValueError`` too, so that callers of the
library may catch them as usual.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PhisightError(Exception):
    """Base of every error a user can cause; the message is one line."""

    exit_code = 1
    """What the command line exits with."""


class SettingsError(PhisightError, ValueError):
    """A recipe or a flag cannot be used.

    Attributes:
        problems: A sentence for each thing that is wrong.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class TaskError(PhisightError):
    """Template, fields and table do not fit each other (no ``ValueError``: pydantic must let it through as it is)."""


class MissingExtraError(PhisightError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional dependency: pip install 'phisight[{extra}]'")


class StorageError(PhisightError, OSError):
    """A file cannot be written."""


class UnreadableFileError(PhisightError, ValueError):
    """A file that a command reads is damaged, cut or too large."""


class DataError(PhisightError):
    """Base of errors about tables and images on disk."""


class SourceError(DataError):
    """A source cannot be read."""


class ImageError(DataError, ValueError):
    """Base of errors about one image."""


class MissingImageError(ImageError, FileNotFoundError):
    """The image file is not there."""


class UnreadableImageError(ImageError):
    """The bytes are not a whole image."""


class ElongatedImageError(ImageError):
    """The image is too long and thin for the crop grid."""


class EmptyFieldError(DataError, ValueError):
    """A field the task needs holds nothing."""


class DatasetError(DataError, ValueError):
    """A folder is not a data set folder, or a damaged one."""


class ChangedImageError(DatasetError):
    """A stored image is not the one that the table records."""


class SampleError(PhisightError, ValueError):
    """A sample cannot be drawn as asked."""


class ModelError(PhisightError, ValueError):
    """Base of errors about model, processor and checkpoint."""


class CheckpointError(ModelError):
    """A checkpoint does not fit the model."""


class ImageTagError(ModelError):
    """Image tags in the text and images handed in do not match."""


class ImagePlaceholderError(ModelError):
    """Image placeholders in the ids and image features do not match."""


class TruncationError(ModelError):
    """Shortening a text would cut an image."""


class TrainError(PhisightError, RuntimeError):
    """Base of errors of a training run."""


class ImageCheckError(TrainError):
    """A different image does not change the loss."""


class FeatureCacheError(TrainError):
    """Stored features of an image cannot be read."""


class NonFiniteLossError(TrainError):
    """The loss became NaN or infinite."""


class MemoryLimitError(TrainError):
    """A step does not fit into the memory of the device."""


class WorkerError(TrainError):
    """A process that prepares images died."""


class RankError(TrainError):
    """Another process of the run ended, or does not answer."""


class StoppedError(TrainError):
    """A signal asked training to stop; the message says what is saved and how to continue."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class EvaluationError(PhisightError, ValueError):
    """Answers cannot be scored."""


class EngineError(PhisightError, RuntimeError):
    """A server or cluster that should answer does not."""


class RunError(PhisightError, ValueError):
    """A run folder lacks what was asked of it."""


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that was probably meant, for an error message; None where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return near[0] if near else None


def some(names: Iterable[object], limit: int = 5) -> str:
    """Names for an error message: the first few, then how many more."""
    every = [str(name) for name in names]
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more
