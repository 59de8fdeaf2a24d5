"""Exported images as streams: read without being kept, or written to a file."""

import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from samebits.core.jsonio import storage_error


def write_stream(chunks: Iterable[bytes], path: Path) -> None:
    """Write an archive atomically; raises StorageError, and what the chunks raise."""
    # A draft beside the final name: a full disk or Ctrl-C leaves no half archive under the name that others read.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
        draft.rename(path)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        draft.unlink(missing_ok=True)


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
