"""Every error a user can meet, each with its exit status. A message says what happened, then what to do."""

from collections.abc import Sequence

# Like `diff`: 0 means the same, 1 different, 2 and above an error. 128 + n is a signal.
EXIT_OK = 0
EXIT_SCRIPT_FAILED = 1
EXIT_DIFFERENT = 1
EXIT_ERROR = 2
EXIT_NOT_COMPARABLE = 3
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class SamebitsError(Exception):
    """Root of all errors. `main` prints its message on stderr and exits with `exit_status`."""

    exit_status = EXIT_ERROR


class InputError(SamebitsError):
    """An argument, option or input file is missing, unreadable or invalid."""


class SettingError(SamebitsError):
    """A determinism setting contradicts the profile, or did not take effect."""


class RecordError(SamebitsError):
    """A file of a run's folder cannot be read, or is inconsistent."""


class StorageError(SamebitsError):
    """Something could not be written: a full disk, a read-only folder."""


class EngineError(SamebitsError):
    """The container engine is missing, refused a request, or stopped."""


class NoEngineError(EngineError):
    """No container engine answers, though one may be `configured`."""

    def __init__(self, message: str, *, configured: bool = True) -> None:
        super().__init__(message)
        self.configured = configured


class UntrustedError(SamebitsError):
    """What someone else made would be executed outside of a container, or build an image in an unknown way."""


class ImageError(SamebitsError):
    """The image is missing, or is not the one this lock describes."""


class ToolError(SamebitsError):
    """A program that samebits calls (pip, docker buildx) failed; `output` is all that it printed, if that was kept."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class Terminated(BaseException):
    """SIGTERM arrived. Derives from BaseException, so that `except Exception` in a user's script does not catch it."""


def reason_of(error: Exception) -> object:
    """Why a file cannot be read, for a message that names it: of an OSError without its number and path."""
    return getattr(error, "strerror", None) or error


def shorten(names: Sequence[str], most: int) -> str:
    """Join the first `most` names, and count the rest: `a, b and 3 more`."""
    # A message must stay readable for any number of names.
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def pluralize(number: int, what: str = "line") -> str:
    """`1 line`, `2 lines`."""
    return f"{number} {what}{'' if number == 1 else 's'}"
