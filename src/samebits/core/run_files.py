"""The one door to the files of a run's folder, which someone else may have made: regular files beneath it, no others.

Every folder on the way is opened by its own name and none is followed through a link, so that nothing outside is read,
whatever changes meanwhile. A pipe, a socket or a device is refused before it is opened, so that nothing waits.
"""

import errno
import fcntl
import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from samebits.core.errors import RecordError

MAX_JSON_BYTES = 64 << 20  # a record of 100,000 tensors has 20 MiB
MAX_MANIFEST_BYTES = 1 << 30
MAX_CODE_BYTES = 64 << 20  # of one file of code or software
MAX_LINE_BYTES = 64 << 20  # of a ledger
MAX_DEPTH = 64  # folders within folders
MAX_FILES = 1_000_000

_FICLONE = 0x40049409  # have the target share the blocks of the source
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def most_bytes(path: str) -> int | None:
    """The largest size of a file of a run, by its path in the folder; None where a training may write any amount."""
    folder, _, name = path.partition("/")
    if name:
        return MAX_CODE_BYTES if folder in ("code", "image") else None
    sizes = {"json": MAX_JSON_BYTES, "jsonl": MAX_MANIFEST_BYTES}
    return None if path == "ledger.jsonl" else sizes.get(path.rpartition(".")[2])


def file_kind(mode: int) -> str:
    """What a name stands for that is no regular file, in a message."""
    return _KINDS.get(stat.S_IFMT(mode), "no file")


class NotPlainFileError(OSError):
    """What is there is not a regular file beneath the folder, or is larger than any that samebits writes."""


def safe_path(text: str) -> str:
    """A relative path of a manifest or record; raises RecordError for one that leads out of its folder."""
    parts = text.removesuffix("/").split("/")
    if "\0" in text or any(part in ("", ".", "..") for part in parts):
        raise RecordError(f"{text!r} is no path beneath a run's folder")
    return text


def open_plain(path: Path, within: Path | None = None) -> BufferedReader:
    """Open a regular file for reading.

    `within` is the folder that it must lie beneath (None: its own); links are followed on the way to that folder only.
    Raises OSError.
    """
    root = path.parent if within is None else within
    *folders, name = path.relative_to(root).parts or ("",)
    here = _descend(root, folders, path)
    try:
        return _open_file(name, here, path)
    except OSError as error:
        error.filename = os.fspath(path)  # not the name in its folder alone
        raise
    finally:
        os.close(here)


def _descend(root: Path, folders: Sequence[str], path: Path) -> int:
    """Open a folder by one name after the other, none of which is a link; raises OSError, about `path`."""
    here = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            inner = _open_folder(folder, here, path)
            os.close(here)
            here = inner
    except OSError as error:
        os.close(here)
        error.filename = os.fspath(path)
        raise
    return here


def _open_folder(name: str, here: int, path: Path) -> int:
    if name == "..":
        raise NotPlainFileError(errno.EINVAL, "its path leads out of the folder", str(path))
    try:
        return os.open(name, _FOLDER, dir_fd=here)
    except NotADirectoryError as error:
        raise NotPlainFileError(errno.ENOTDIR, f"{name} is not a folder", str(path)) from error


def _open_file(name: str, here: int, path: Path) -> BufferedReader:
    # Looked at before it is opened: to open a device may do something.
    _require_regular(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode, path)
    return _as_regular(os.open(name, _FILE, dir_fd=here), path)


def _as_regular(descriptor: int, path: Path) -> BufferedReader:
    # Looked at again, as another one may have taken its place.
    try:
        _require_regular(os.fstat(descriptor).st_mode, path)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise NotPlainFileError(errno.EINVAL, f"it is {file_kind(mode)}", str(path))


def read_plain(path: Path, most: int, within: Path | None = None) -> bytes:
    """The content of a regular file of at most `most` bytes; raises OSError."""
    with open_plain(path, within) as file:
        # The size comes first: nothing is read of a file that is too large.
        large = os.fstat(file.fileno()).st_size > most
        content = b"" if large else file.read()
    if large or len(content) > most:  # it may have grown meanwhile
        raise NotPlainFileError(errno.EFBIG, f"it is larger than {most >> 20} MiB", str(path))
    return content


def read_given(path: Path, most: int = MAX_CODE_BYTES, *, anywhere: bool = False) -> bytes:
    """The content of a file that a project holds: a regular one, also behind links within the project; raises OSError.

    A repository may have a pipe, on which a reader waits, or a link: to a device without end, or to a secret that a
    message would show. `anywhere` is for files that the user names, which may be links to any file.
    """
    if not (anywhere or Path(os.path.realpath(path)).is_relative_to(_repository(path.parent))):
        raise NotPlainFileError(errno.EINVAL, "it is a link that leads out of the project", str(path))
    with open_given(path) as file:
        if os.fstat(file.fileno()).st_size <= most and len(content := file.read(most + 1)) <= most:
            return content
    raise NotPlainFileError(errno.EFBIG, f"it is larger than {most >> 20} MiB", str(path))


def _repository(folder: Path) -> Path:
    """The git repository that a folder lies in, else the folder itself."""
    real = Path(os.path.realpath(folder))
    return next((above for above in (real, *real.parents) if os.path.lexists(above / ".git")), real)


def open_given(path: Path) -> BufferedReader:
    """Open a regular file of a project, also behind links; raises OSError."""
    _require_regular(os.stat(path).st_mode, path)
    return _as_regular(os.open(path, _FILE & ~os.O_NOFOLLOW), path)


def is_plain(path: Path) -> bool:
    """Whether a path is a regular file, and no link to one."""
    return path.is_file() and not path.is_symlink()


def plain_sha256(path: Path, within: Path | None = None, most: int | None = None) -> str:
    """The sha256 of a regular file, in hex, of at most `most` bytes where that is known; raises OSError."""
    with open_plain(path, within) as file:
        if most is not None and os.fstat(file.fileno()).st_size > most:
            raise NotPlainFileError(errno.EFBIG, f"it is larger than {most >> 20} MiB", str(path))
        return hashlib.file_digest(file, "sha256").hexdigest()


def touch_plain(path: Path) -> None:
    """Create an empty file where there is none, never behind a link; raises OSError."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644))


def copy_plain(path: Path, within: Path, target: Path) -> None:
    """Copy a regular file to a new one, read-only; raises OSError, also where `target` exists."""
    # Never a hard link, which would let a change of the one change the other.
    with open_plain(path, within) as read, target.open("xb") as written:
        try:
            fcntl.ioctl(written, _FICLONE, read.fileno())
        except OSError:  # the file system cannot, or it is another one
            shutil.copyfileobj(read, written, 1 << 20)
        os.fchmod(written.fileno(), 0o444)


def plain_lines(path: Path, within: Path | None = None) -> Iterator[bytes]:
    """The lines of a regular file with their ends; raises OSError, also for a line that is too long."""
    with open_plain(path, within) as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            if len(line) > MAX_LINE_BYTES:
                raise NotPlainFileError(errno.EFBIG, f"a line is longer than {MAX_LINE_BYTES >> 20} MiB", str(path))
            yield line


def plain_names(folder: Path) -> list[str]:
    """The names in a folder of a run, which is not a link itself; raises OSError."""
    with _listed(folder.parent, folder.name) as listing:
        return [child.name for child in itertools.islice(listing, MAX_FILES)]


def plain_files(root: Path, below: str = "") -> Iterator[str]:
    """The paths of all files beneath `root/below`, unordered; raises OSError where one is not a regular file."""
    waiting, count = [below], 0
    while waiting:
        prefix = waiting.pop()
        with _listed(root, prefix) as listing:
            for child in listing:
                path, count = f"{prefix}/{child.name}".removeprefix("/"), count + 1
                if child.is_dir(follow_symlinks=False):
                    waiting.append(path)
                    continue
                _require_regular(child.stat(follow_symlinks=False).st_mode, root / path)
                yield path
                if count > MAX_FILES:
                    raise NotPlainFileError(errno.EFBIG, f"it holds more than {MAX_FILES} files", str(root))


@contextmanager
def _listed(root: Path, relative: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """What a folder holds, none of whose parents below the root is a link; raises OSError."""
    if relative.count("/") >= MAX_DEPTH:
        raise NotPlainFileError(errno.ENAMETOOLONG, f"folders are nested deeper than {MAX_DEPTH}", str(root / relative))
    here = _descend(root, relative.split("/") if relative else (), root / relative)
    try:
        # By its descriptor: at its path could be another one by now.
        readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
    except OSError as error:
        error.filename = os.fspath(root / relative)
        raise
    finally:
        os.close(here)
    try:
        with os.scandir(readable) as listing:
            yield listing
    finally:
        os.close(readable)
