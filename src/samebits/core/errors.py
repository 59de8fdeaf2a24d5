"""Every error a user can meet, each with its exit status; a message says what happened, then what to do."""

from collections.abc import Sequence

EXIT_OK = 0
EXIT_SCRIPT_FAILED = 1
EXIT_DIFFERENT = 1
EXIT_ERROR = 2
EXIT_NOT_COMPARABLE = 3
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class SamebitsError(Exception):
    """The one root; `main` turns it into a line on stderr and `exit_status`."""

    exit_status = EXIT_ERROR


class InputError(SamebitsError):
    """Something the user named is missing, unreadable or not what it should be."""


class SettingError(SamebitsError):
    """A setting contradicts the profile, or did not take effect."""


class RecordError(SamebitsError):
    """A file of a run's folder cannot be read, or does not agree with itself."""


class StorageError(SamebitsError):
    """Something could not be written: a full disk, a read-only folder."""


class EngineError(SamebitsError):
    """The container engine is missing, refused, or went away."""


class NoEngineError(EngineError):
    """No engine answers at all."""


class ImageError(SamebitsError):
    """The image is missing, or is not the one this lock describes."""


class ToolError(SamebitsError):
    """A program that samebits calls (pip, docker buildx) failed."""


class Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt, it must pass through `except Exception` of a user's script."""


def shorten(names: Sequence[str], most: int) -> str:
    """The first names for a line of one error, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def pluralize(number: int, what: str = "line") -> str:
    """`1 line`, `2 lines`."""
    return f"{number} {what}{'' if number == 1 else 's'}"
