"""The user's home folder, which records write as `~`: its name is usually that of the user."""

import functools
import os
import pwd
import re
from contextlib import suppress
from pathlib import Path


def recorded_path(path: Path) -> str:
    """An absolute path as text, with `~` for the user's home; bytes that are not UTF-8 become escapes."""
    return without_home(os.fsencode(path.absolute()).decode("utf-8", "backslashreplace"))


def present_path(text: str) -> str:
    """A recorded path for the user who asks; only their own `~` stands for something."""
    return os.path.expanduser(text) if text.startswith("~/") else text


def without_home(text: str) -> str:
    """A text in which every path in the user's home begins with `~`."""
    for home in _homes(os.environ.get("HOME", "")):
        text = re.sub(rf"(?<![\w.~/-]){re.escape(home)}(?![\w.-])", "~", text)
    return text


@functools.cache
def _homes(variable: str) -> tuple[str, ...]:
    """Where the variable and the system say that it is; a training has another variable than its user."""
    found = [variable]
    with suppress(KeyError):  # in a container, its user has no name
        found.append(pwd.getpwuid(os.getuid()).pw_dir)
    # That of an image's user, whose launcher may have the variable of another machine's.
    if found[1:] == ["/tmp"]:  # noqa: S108
        del found[1:]
    # A service may have the root folder for its home, or none.
    return tuple(dict.fromkeys(home.rstrip("/") for home in found if home.startswith("/") and home.strip("/")))
