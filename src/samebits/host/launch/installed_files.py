"""The files of a cached virtual environment or unpacked image: are they as they were when it was made and checked?

Every start compares sizes, times and names, which takes a tenth of a second. Once a day, and with `--strict`, the files
are hashed. Compiled files count too: Python would run them whatever their sources say.
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from samebits.core.errors import ImageError, shorten
from samebits.core.jsonio import canonical_json, differing_names, write_atomically
from samebits.host.console import log_progress

_MANIFEST = "samebits-files.json"
_STAMP = "samebits-stamp.json"
_HEADERS = "/tensorflow/include/"
"""Two thirds of all files, which no training reads: they are hashed with all others, and not looked at each time."""

_SECONDS = 86_400  # after which the files are hashed again


def record_files(folder: Path) -> None:
    """Write the digest of every file of a new environment into it."""
    write_atomically(folder / _MANIFEST, canonical_json(_digests(folder)))
    _write_stamp(folder)


def check_files(folder: Path, *, thorough: bool = False, what: str = "virtual environment") -> None:
    """Raise ImageError for files that were changed, removed or added since `record_files`; `thorough` hashes them."""
    if not thorough and _stamp_holds(folder):
        return
    try:
        known = json.loads((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot check whether {folder} was changed: {error}; {_remedy(folder)}") from error
    log_progress(f"checking the files of the {what}")
    found = _digests(folder)
    changed = differing_names(known, found)
    if changed:
        words = [f"{path} ({_kind(path in known, path in found)})" for path in changed]
        raise ImageError(f"the {what} {folder} was changed: {shorten(words, 3)}; {_remedy(folder)}")
    _write_stamp(folder)


def _kind(was: bool, there: bool) -> str:  # noqa: FBT001  two facts about one file
    return "added" if not was else "changed" if there else "removed"


def _remedy(folder: Path) -> str:
    return f"remove it, and the next run makes it again: rm -r {folder}"


def _stamp_holds(folder: Path) -> bool:
    """Whether the files look as they did when they were last hashed, and that was today."""
    try:
        stamp = json.loads((folder / _STAMP).read_bytes())
        age = time.time() - stamp["hashed"]
        return bool(0 <= age < _SECONDS and stamp["looks"] == _looks(folder))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_stamp(folder: Path) -> None:
    write_atomically(folder / _STAMP, canonical_json({"hashed": int(time.time()), "looks": _looks(folder)}))


def _looks(folder: Path) -> str:
    """A digest of all names, sizes and times. The time of the last change of a file (ctime) cannot be set back."""
    lines = [
        f"{path}\0{at.st_mode}\0{at.st_size}\0{at.st_mtime_ns}\0{at.st_ctime_ns}\n"
        for path, at in _files(str(folder), without=_HEADERS)
    ]
    return hashlib.sha256("".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def _files(folder: str, without: str = "//") -> Iterator[tuple[str, os.stat_result]]:
    """Every file and link below a folder by its relative path, unordered, without the two files of this module.

    Folders whose path ends with `without` are left out.
    """
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        with os.scandir(f"{folder}/{prefix}") as listing:
            for entry in listing:
                path = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    waiting += [] if f"{path}/".endswith(without) else [f"{path}/"]
                elif path not in (_MANIFEST, _STAMP):
                    yield path, entry.stat(follow_symlinks=False)


def _digests(folder: Path) -> dict[str, str]:
    return {path: _content(folder / path) for path, _ in _files(str(folder))}


def _content(path: Path) -> str:
    """The digest of a file, or what a link links to, or the kind of a file that holds no bytes."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return f"-> {os.readlink(path)}"
    if not stat.S_ISREG(mode):  # such as a FIFO, which would wait for a writer
        return f"kind {stat.S_IFMT(mode):o}"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
