"""The folder of a run: the names of all its files, and how it is created."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from samebits.core.checkpoint_store import CheckpointStore
from samebits.core.digest import Digest
from samebits.core.errors import StorageError
from samebits.core.folder_manifest import write_folder_manifest
from samebits.core.jsonio import storage_error
from samebits.core.ledger import is_alive
from samebits.core.record import INTERRUPTED, Outcome, Record, finalize, interrupted, read_record
from samebits.core.record_summary import RecordSummary, read_summary

MARKER = ".samebits-runs"
"""A file in every folder of runs. Code trees leave out folders that contain it."""

_DIED = "the run ended without finalizing its record (killed, or power was lost)"
_RESERVE_BYTES = 2 << 20  # enough for a record of about 10,000 tensors


@dataclass(frozen=True, slots=True)
class RunDir:
    """`runs/<id>/`."""

    path: Path

    @property
    def record(self) -> Path:
        """What ran, and its result."""
        return self.path / "record.json"

    @property
    def ledger(self) -> Path:
        """One line per epoch, or per step, too."""
        return self.path / "ledger.jsonl"

    @property
    def code(self) -> Path:
        """The code tree as it ran."""
        return self.path / "code"

    @property
    def work(self) -> Path:
        """The folder in which the script runs: a copy of the code, there only until the run ends."""
        return self.path / "work"

    @property
    def code_manifest(self) -> Path:
        """The code's files; its sha256 is the code digest."""
        return self.path / "code.jsonl"

    @property
    def data_manifest(self) -> Path:
        """The data's files; its sha256 is the data digest."""
        return self.path / "data.jsonl"

    @property
    def outputs(self) -> Path:
        """The files that the script wrote to SAMEBITS_OUTPUT, or beside its code."""
        return self.path / "outputs"

    @property
    def image(self) -> Path:
        """The inputs of the image, from which it can be rebuilt."""
        return self.path / "image"

    @property
    def models(self) -> Path:
        """The trained models, saved at the end of the run."""
        return self.path / "models"

    @property
    def tensors(self) -> Path:
        """The bytes of traced tensors, each file named by its sha256. Exists only if one step was traced."""
        return self.path / "tensors"

    @property
    def checkpoints(self) -> CheckpointStore:
        """The checkpoints from which the run can be resumed."""
        return CheckpointStore(self.path / "checkpoints")

    @property
    def verification(self) -> Path:
        """The outcome of the verification, if this run verifies another."""
        return self.path / "verification.json"

    @property
    def manifest(self) -> Path:
        """Every file of this folder with its digest; the finalized record names the manifest's own."""
        return self.path / "files.jsonl"

    @property
    def log(self) -> Path:
        """The script's stdout and stderr."""
        return self.path / "log.txt"

    @property
    def reserve(self) -> Path:
        """Disk space reserved while the script runs, so that the record can be finalized on a full disk."""
        return self.path / ".reserve"

    def create_inside(self) -> None:
        """Create the files and folders that are written while the run lasts."""
        for folder in (self.outputs, self.models):
            folder.mkdir()
        self.ledger.touch()
        with self.reserve.open("wb") as file:
            # A sparse file would reserve nothing.
            os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)

    def read(self) -> Record:
        """The record. If the run died without finalizing it, the state is `interrupted`."""
        record = read_record(self.record)
        # A run that is neither finalized nor alive was killed.
        return record if record.finalized or is_alive(self.ledger) else interrupted(record, _DIED)

    def finalize(self, record: Record, known: Mapping[str, Digest] = MappingProxyType({})) -> None:
        """Finalize the record, with a digest of every file; `known` holds digests by path that need not be computed.

        Raises RecordError where the record is finalized already.
        """
        # The reserve keeps room on the disk for these last writes.
        self.reserve.unlink(missing_ok=True)
        files = None
        # Without its manifest a run is worth more than without its record.
        with suppress(OSError, StorageError):
            files = write_folder_manifest(self.path, self.manifest, known)
        finalize(self.record, replace(record, files=files))

    def read_summary(self) -> RecordSummary:
        """The summary of the record, in the same way; its checksum is not checked."""
        summary = read_summary(self.record)
        if summary.finalized or is_alive(self.ledger):
            return summary
        return replace(summary, outcome=Outcome(state=INTERRUPTED, message=_DIED))


def prepare_runs(runs: Path) -> None:
    """Create the folder of all runs with its marker; raises StorageError if it is not writable."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
        (runs / MARKER).touch()
    except OSError as error:
        raise storage_error(error, runs) from error


def claim(runs: Path, run_id: str) -> RunDir:
    """Create the folder of a new run. A name that exists gets a number. It becomes a run when its record is written."""
    for attempt in range(1, 1000):
        path = runs / (run_id if attempt == 1 else f"{run_id}-{attempt}")
        try:
            # mkdir is atomic, so two runs never share a folder.
            path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise storage_error(error, path) from error
        return RunDir(path)
    raise StorageError(f"{runs} holds a thousand runs named {run_id}; choose another folder with --runs")
