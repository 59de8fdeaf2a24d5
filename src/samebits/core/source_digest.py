"""The digest of the runner's source and its Dockerfile, as launcher and runner both compute it."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.file_tree import Tree, TreeEntry
from samebits.core.run_files import MAX_CODE_BYTES, plain_files, plain_sha256

LOCK_PATH = "lock/requirements.lock"
PACKAGES_PATH = "packages/requirements.lock"
"""Samebits's lock, and that of a project's own packages, in a build context."""


def context_source_digest(context: Path, *, compiled: bool = True) -> Digest:
    """The source digest of a build context. What Python compiled counts as an extra file, unless `compiled` is off."""
    found = (name for name in plain_files(context, "source") if compiled or "/__pycache__/" not in name)
    return _digest_of((name, _entry(name, context)) for name in (*found, "Dockerfile"))


def digest_of_files(files: Mapping[str, Path]) -> Digest:
    """The digest of files by their names; it depends neither on the file system's order nor on times and modes."""
    return _digest_of(
        (name, TreeEntry(path=name, size=path.stat().st_size, digest=Digest.of_file(path)))
        for name, path in files.items()
    )


def _entry(name: str, context: Path) -> TreeEntry:
    path = context / name
    return TreeEntry(path=name, size=path.stat().st_size, digest=Digest(plain_sha256(path, context, MAX_CODE_BYTES)))


def _digest_of(entries: Iterable[tuple[str, TreeEntry]]) -> Digest:
    return Tree(entries=tuple(entry for _, entry in sorted(entries))).digest
