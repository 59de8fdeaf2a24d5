"""Read an exported image as a stream; the archive is never kept."""

import tarfile
from collections.abc import Iterator
from typing import Any


def manifest_in(chunks: Iterator[bytes]) -> bytes | None:
    """The `manifest.json` of an exported image."""
    export: Any = _ChunkReader(chunks)
    with tarfile.open(fileobj=export, mode="r|") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.name == "manifest.json" else None
            if content is not None:
                return content.read()
    return None


class _ChunkReader:
    """Chunks from the engine as a file that tarfile can read as a stream, which takes pieces of any size."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = filter(None, chunks)

    def read(self, size: int) -> bytes:  # noqa: ARG002  tarfile keeps what it did not ask for
        """The next chunk; empty only at the end."""
        return next(self._chunks, b"")
