"""`--store`: files that several capsules in one folder share, each once, named by its sha256."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError
from samebits.core.folder_manifest import digest_file
from samebits.core.jsonio import storage_error
from samebits.host.capsule.archive import Source, transfer
from samebits.host.capsule.contents import IMAGE, WHEELS, Member

_SHARED = (f"{IMAGE}/blobs/", f"{WHEELS}/")
"""Where the files are that capsules share: layers and packages."""


class BlobStore:
    """The folder `sha256` below `root`."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "sha256"

    def path(self, member: Member) -> Path:
        """Where a file is, if it is here."""
        return self._folder / ("" if member.digest is None else member.digest.hex)

    def take(self, source: Source) -> Source:
        """Put a file that capsules share into the store, if it is not there; returns the source with its member."""
        if not source.member.path.startswith(_SHARED):
            return source
        digest = source.member.digest or Digest.of_file(source.path)
        source = replace(source, member=replace(source.member, digest=digest, stored=True))
        path = self.path(source.member)
        # One that was damaged is written again.
        if digest_file(os.fspath(path)) != digest:
            self._write(source, path)
        return source

    def _write(self, source: Source, path: Path) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with _draft(path) as draft, draft.open("xb") as file:
                transfer(source, file.write)
                file.flush()
                os.fsync(file.fileno())
                os.replace(draft, path)
        except OSError as error:
            raise storage_error(error, path) from error

    def blocks(self, member: Member) -> Source:
        """The source of a stored file; raises RecordError where it is missing."""
        path = self.path(member)
        if not path.is_file():
            raise RecordError(f"the store {self._folder.parent} lacks {member.path} ({member.digest}); restore it")
        return Source(member=member, path=path, within=self._folder)


def require_store(store: Path | None, stored: list[Member]) -> BlobStore:
    """The store of a capsule that needs one; raises InputError where none is named."""
    if store is None:
        raise InputError(f"the capsule keeps {len(stored)} of its files in a store; name it with --store DIR")
    return BlobStore(store)


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)
