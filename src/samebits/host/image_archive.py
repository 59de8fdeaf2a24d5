"""Exported images as streams: read without being kept, or written to a file."""

import hashlib
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from samebits.core.errors import ImageError
from samebits.core.jsonio import storage_error

_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_MAX_JSON = 16 << 20


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


def unpack_layout(chunks: Iterator[bytes], folder: Path) -> None:
    """Write the blobs and the index of an exported image into a folder; raises ImageError for a blob of another digest.

    No other name in the archive counts.
    """
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    export: Any = _ChunkReader(chunks)
    try:
        with tarfile.open(fileobj=export, mode="r|") as archive:
            for member in archive:
                content, found = archive.extractfile(member) if member.isreg() else None, _BLOB.fullmatch(member.name)
                if content is not None and found is not None:
                    _write_blob(content, blobs / found[1])
                elif content is not None and member.name == "index.json":
                    (folder / "index.json").write_bytes(content.read(_MAX_JSON))
    except tarfile.TarError as error:
        raise ImageError(f"the image's archive cannot be read: {error}") from error
    except OSError as error:
        raise storage_error(error, folder) from error


def _write_blob(content: IO[bytes], path: Path) -> None:
    digest = hashlib.sha256()
    with path.open("xb") as file:
        while block := content.read(1 << 20):
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != path.name:
        raise ImageError(
            f"the image's archive is damaged: a file of it is sha256:{digest.hexdigest()}, not {path.name}"
        )


class _ChunkReader:
    """Chunks from the engine as a file that tarfile can read as a stream, which takes pieces of any size."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = filter(None, chunks)

    def read(self, size: int) -> bytes:  # noqa: ARG002  tarfile keeps what it did not ask for
        """The next chunk; empty only at the end."""
        return next(self._chunks, b"")
