"""Copy checkpoints from one run's folder to another's."""

import os
from collections.abc import Sequence
from pathlib import Path

from samebits.core.checkpoint_store import CheckpointStore, Position
from samebits.core.digest import Digest
from samebits.core.errors import RecordError
from samebits.core.jsonio import storage_error
from samebits.core.run_files import NotPlainFileError, copy_plain


def copy_checkpoints(store: CheckpointStore, positions: Sequence[Position], other: CheckpointStore) -> None:
    """Add checkpoints to the store of another run; where the file system can, the copies share their blocks.

    Raises RecordError for what is no regular file, StorageError if it cannot be written.
    """
    try:
        other.objects.mkdir(parents=True, exist_ok=True)
        for position in positions:
            for text in store.read(position).objects:
                name = Digest.parse(text).hex
                _copy(store, store.objects / name, other.objects / name)
            _copy(store, store.path(position), other.path(position))
    except NotPlainFileError as error:
        raise RecordError(f"cannot copy {error.filename}: {error.strerror}") from error
    except OSError as error:
        raise storage_error(error, other.folder) from error


def _copy(store: CheckpointStore, source: Path, target: Path) -> None:
    if not os.path.lexists(target):
        copy_plain(source, store.run, target)
