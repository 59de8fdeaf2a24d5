"""The walk over a folder: which files belong to its tree, and what no other machine could reproduce."""

import fnmatch
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from samebits.core.errors import InputError

_MAX_LINKS = 40  # Linux follows no more symbolic links in one path


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeFilter:
    """What to leave out of a tree.

    `patterns` are globs on relative paths or names, `paths` are relative paths; `hidden` leaves out names with a
    leading dot. Two kinds of folders are skipped: those in `folders`, and those that contain a file named in `markers`.
    Without `links` a link is an error: in a run's own copy there are none.
    """

    patterns: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()
    markers: tuple[str, ...] = ()
    paths: frozenset[str] = frozenset()
    hidden: bool = False
    links: bool = True
    _identities: frozenset[tuple[int, int]] = field(init=False, default=frozenset())

    def __post_init__(self) -> None:
        # By device and inode, because a folder has another path inside a container.
        object.__setattr__(self, "_identities", frozenset(filter(None, map(_identity, self.folders))))

    def names(self, relative: str) -> bool:
        """Whether to leave out a path because of its name."""
        name = relative.rpartition("/")[2]
        if relative in self.paths or (self.hidden and name.startswith(".")):
            return True
        return any(fnmatch.fnmatchcase(relative, p) or fnmatch.fnmatchcase(name, p) for p in self.patterns)

    def holds_folder(self, path: str, at: os.stat_result) -> bool:
        """Whether to leave out a folder because it is one of `folders`, or holds a marker file."""
        return (at.st_dev, at.st_ino) in self._identities or any(os.path.exists(f"{path}/{m}") for m in self.markers)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode; None if the folder is missing or unreadable."""
    try:
        at = os.stat(folder)
    except OSError:
        return None
    return at.st_dev, at.st_ino


def list_tree(root: Path, what: str, leave_out: TreeFilter | None = None) -> list[tuple[str, str, int]]:
    """All files of `root` as (relative path, path, size), sorted; an empty folder is (`name/`, "", 0).

    `what` names the tree in messages, such as "data". Raises InputError for anything that another machine could not
    reproduce: a link that leaves the tree or loops, a socket, a name that is not UTF-8, an unreadable file.
    """
    require_folder(root, what)
    # The root may itself be a link; what it links to is the folder.
    walk = _TreeWalk(os.path.realpath(root), what, leave_out or TreeFilter())
    return sorted(walk.files(), key=lambda item: item[0].encode())


def require_folder(root: Path, what: str) -> None:
    """Raise InputError where `root` is no folder that can be read; `what` names it, such as "data"."""
    try:
        is_folder = stat.S_ISDIR(os.stat(root).st_mode)
    except FileNotFoundError:
        raise InputError(f"the {what} folder {root} does not exist; name a folder that holds the {what}") from None
    except OSError as error:
        raise InputError(f"cannot read {root}: {error.strerror}; make it readable for you") from error
    if not is_folder:
        raise InputError(f"the {what} folder {root} is not a folder; name a folder that holds the {what}")


_Ancestors = tuple[tuple[int, int], ...]
"""The identities of the folders on the way from the root to a folder."""


class _TreeWalk:
    """Lists the files of one tree."""

    def __init__(self, root: str, what: str, leave_out: TreeFilter) -> None:
        self.root = root
        self._what = what
        self._leave_out = leave_out

    def files(self) -> Iterator[tuple[str, str, int]]:
        """All files below the root, unordered. Not recursive, as folders may nest deeper than Python's call stack."""
        waiting: list[tuple[str, str, _Ancestors]] = [("", self.root, ())]
        while waiting:
            prefix, path, ancestors = waiting.pop()
            here, children = self._open(path)
            # A link to a folder above would be listed without end.
            if here in ancestors:
                raise InputError(f"the {self._what} folder holds a link that loops: {path}; remove the link")
            # The root itself needs no entry.
            if not children and prefix:
                yield prefix, "", 0
            for child in children:
                relative = f"{prefix}{child.name}"
                at = self._checked_stat(relative, child)
                if at is None:
                    continue
                if stat.S_ISDIR(at.st_mode):
                    waiting.append((f"{relative}/", child.path, (*ancestors, here)))
                else:
                    yield relative, child.path, at.st_size

    def _open(self, path: str) -> tuple[tuple[int, int], list[os.DirEntry[str]]]:
        """The identity and the entries of a folder."""
        try:
            at = os.stat(path)
            with os.scandir(path) as listing:
                return (at.st_dev, at.st_ino), list(listing)
        except OSError as error:
            raise self._unreadable(path, error) from error

    def _checked_stat(self, relative: str, child: os.DirEntry[str]) -> os.stat_result | None:
        """The child's status; None if it is left out. Raises InputError if it cannot be part of a tree."""
        self._check_name(relative)
        # A name that is left out may be anything, so its link is not checked.
        if self._leave_out.names(relative):
            return None
        # Checked before `stat`, which follows the link.
        if child.is_symlink():
            if not self._leave_out.links:
                raise InputError(f"the {self._what} folder holds a link: {child.path}")
            if self._leads_to_left_out(child):
                return None
            self._check_link(relative, child.path)
        try:
            at = child.stat()
        except OSError as error:
            raise self._unreadable(child.path, error) from error
        if stat.S_ISDIR(at.st_mode):
            return None if self._leave_out.holds_folder(child.path, at) else at
        if stat.S_ISREG(at.st_mode):
            return at
        raise InputError(
            f"the {self._what} folder holds {child.path}, which is neither a file nor a folder"
            " (a socket, a pipe or a device); remove it"
        )

    def _check_name(self, relative: str) -> None:
        try:
            relative.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(relative)
            raise InputError(f"the {self._what} folder holds a name that is not UTF-8: {shown!r}; rename it") from None

    def _leads_to_left_out(self, child: os.DirEntry[str]) -> bool:
        """Whether a link leads to a folder that is left out, wherever that is: `data` may be such a link."""
        with suppress(OSError):
            at = child.stat()
            return stat.S_ISDIR(at.st_mode) and self._leave_out.holds_folder(child.path, at)
        return False

    def _check_link(self, relative: str, path: str) -> None:
        """Raise InputError unless a link and every link on its way stay inside the tree."""
        if not self._stays_inside(relative):
            raise InputError(
                f"the {self._what} folder holds a link that leaves it: {path} -> {os.readlink(path)};"
                " put the file itself there, or a relative link within the folder"
            )

    def _stays_inside(self, relative: str) -> bool:
        """Whether a path never leaves the root; its links are resolved part by part.

        A path that leaves the root and comes back by its name is not inside: in a container the root has another name.
        """
        here: list[str] = []
        parts = relative.split("/")[::-1]
        links = 0
        while parts and links < _MAX_LINKS:
            part = parts.pop()
            if part == ".." and not here:
                return False
            if part in {"", ".", ".."}:
                del here[len(here) - (part == "..") :]
                continue
            here.append(part)
            # Links are resolved by hand: `realpath` would hide that a path left the root and came back.
            path = "/".join([self.root, *here])
            if os.path.islink(path):
                target = os.readlink(path)
                # An absolute target lies elsewhere once the folder is mounted in a container.
                if os.path.isabs(target):
                    return False
                links += 1
                here.pop()
                parts += target.split("/")[::-1]
        return True  # opening the path later reports an endless chain of links

    def _unreadable(self, path: str, error: OSError) -> InputError:
        if isinstance(error, FileNotFoundError):
            return InputError(f"the {self._what} folder holds a link to nothing: {path}; remove or repair the link")
        if "symbolic links" in (error.strerror or ""):
            return InputError(f"the {self._what} folder holds a link that loops: {path}; remove the link")
        return InputError(f"cannot read {path}: {error.strerror}; make it readable for you")
