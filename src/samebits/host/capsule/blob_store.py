"""`--store`: files that several capsules in one folder share, each once, named by its sha256."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import ImageError, InputError, RecordError
from samebits.core.folder_manifest import digest_file
from samebits.core.jsonio import Fields, canonical_json, storage_error, write_atomically
from samebits.host.capsule.archive import Source, transfer
from samebits.host.capsule.contents import IMAGE, WHEELS, Member
from samebits.host.capsule.image_layout import Blobs, NamedImage, kept, resolve

_SHARED = (f"{IMAGE}/blobs/", f"{WHEELS}/")
"""Where the files are that capsules share: layers and packages."""


class BlobStore:
    """The folder `sha256` below `root`. In `images`, the descriptors of images that are there with all layers."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "sha256"
        self._images = root / "images"

    def image(self, name: str, wanted: str) -> tuple[NamedImage, Blobs] | None:
        """An image that needs no export: `remember` has noted it, and all its files are here and undamaged."""
        try:
            descriptor = Fields(json.loads(self._note(wanted).read_bytes())).rest()
            # Names that are no digests are drafts of a killed process.
            blobs = {key: one for key, one in kept(self._folder, stored=True).items() if key.isalnum()}
            image = resolve(blobs, [descriptor], name, wanted)
        except (OSError, ValueError, RecursionError, RecordError, ImageError):
            return None
        whole = all(digest_file(os.fspath(self._folder / one)) == Digest(one) for one in image.reached)
        return (image, blobs) if whole else None

    def remember(self, image: NamedImage, wanted: str) -> None:
        """Note where an image begins, whose files are in the store."""
        try:
            self._images.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, self._images) from error
        write_atomically(self._note(wanted), canonical_json(dict(image.descriptor)))

    def _note(self, wanted: str) -> Path:
        return self._images / f"{Digest.parse(wanted).hex}.json"

    def path(self, member: Member) -> Path:
        """Where a file is, if it is here."""
        return self._folder / ("" if member.digest is None else member.digest.hex)

    def take(self, source: Source) -> Source:
        """Put a file that capsules share into the store, if it is not there; returns the source with its member."""
        if source.member.stored or not source.member.path.startswith(_SHARED):
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
