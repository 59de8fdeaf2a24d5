"""All names of files in a run's folder, and how the folder comes to be."""

import os
from dataclasses import dataclass
from pathlib import Path

from samebits.core.checkpoint_store import CheckpointStore
from samebits.core.errors import StorageError
from samebits.core.jsonio import storage_error
from samebits.core.ledger import is_alive
from samebits.core.record import Record, interrupted, read_record

MARKER = ".samebits-runs"
"""A file in every folder of runs; a tree of code leaves such folders out."""

_RESERVE_BYTES = 2 << 20  # room for a record of about 10,000 tensors


@dataclass(frozen=True, slots=True)
class RunDir:
    """`runs/<id>/`."""

    path: Path

    @property
    def record(self) -> Path:
        """What ran and what came out."""
        return self.path / "record.json"

    @property
    def ledger(self) -> Path:
        """One line per epoch, or per step as well."""
        return self.path / "ledger.jsonl"

    @property
    def code(self) -> Path:
        """The code tree as it ran."""
        return self.path / "code"

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
        """What the script wrote to SAMEBITS_OUTPUT."""
        return self.path / "outputs"

    @property
    def image(self) -> Path:
        """The image's recipe: what it was built from, and can be rebuilt from."""
        return self.path / "image"

    @property
    def models(self) -> Path:
        """The trained models, saved at the end."""
        return self.path / "models"

    @property
    def tensors(self) -> Path:
        """Bytes of tensors, each file named by their sha256; there only where one step was traced."""
        return self.path / "tensors"

    @property
    def checkpoints(self) -> CheckpointStore:
        """What the run can be resumed from."""
        return CheckpointStore(self.path / "checkpoints")

    @property
    def verification(self) -> Path:
        """Of a run that verifies another: what came of it."""
        return self.path / "verification.json"

    @property
    def log(self) -> Path:
        """The script's own output."""
        return self.path / "log.txt"

    @property
    def reserve(self) -> Path:
        """Room kept free while the script runs, so that a full disk cannot keep the record from being sealed."""
        return self.path / ".reserve"

    def create_inside(self) -> None:
        """Make the parts that are written to while the run goes on."""
        for folder in (self.outputs, self.models):
            folder.mkdir()
        self.ledger.touch()
        with self.reserve.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)

    def read(self, *, check_seal: bool = True) -> Record:
        """The record, where a run that died without sealing reads as interrupted."""
        record = read_record(self.record, check_seal=check_seal)
        if record.sealed or is_alive(self.ledger):
            return record
        return interrupted(record, "the run ended without sealing its record (killed, or power was lost)")


def prepare_runs(runs: Path) -> None:
    """Make the folder that holds runs, marked as such; raises StorageError where it may not be written to."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
        (runs / MARKER).touch()
    except OSError as error:
        raise storage_error(error, runs) from error


def claim(runs: Path, run_id: str) -> RunDir:
    """Make the folder of a new run; a name that is taken gets a number. It is no run until its record is written."""
    for attempt in range(1, 1000):
        path = runs / (run_id if attempt == 1 else f"{run_id}-{attempt}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise storage_error(error, path) from error
        return RunDir(path)
    raise StorageError(f"{runs} holds a thousand runs named {run_id}; choose another folder with --runs")
