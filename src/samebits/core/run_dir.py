"""The folder of a run: the names of all its files, and how it is created."""

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from samebits.core.checkpoint_store import CheckpointStore
from samebits.core.deep_folders import remove_tree
from samebits.core.digest import Digest
from samebits.core.errors import RecordError, StorageError
from samebits.core.folder_manifest import write_folder_manifest
from samebits.core.inputs_lock import LOCK_NAME
from samebits.core.jsonio import storage_error, write_atomically
from samebits.core.liveness import DEAD, HELD, UNKNOWN, Host, liveness
from samebits.core.record import INTERRUPTED, RUNNING, Outcome, Record, finalize, read_record, write_record
from samebits.core.record_summary import RecordSummary, read_summary
from samebits.core.run_files import is_plain, touch_plain
from samebits.core.run_text import describe_record

MARKER = ".samebits-runs"
"""A file in every folder of runs. Code trees leave out folders that contain it."""

TUNNEL_SOCKET = "launcher"
"""The name of the socket in `RunDir.tunnel`."""

_DIED = "the run ended without finalizing its record (killed, or power was lost)"
_NOT_SEEN = "started on another machine, or where its processes cannot be seen from here"
_LATE = re.compile(r"record\.late(?:-(\d+))?\.json")
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
    def workers(self) -> Path:
        """The folders of the workers beside the chief, there only until the run ends."""
        return self.path / "workers"

    @property
    def code_manifest(self) -> Path:
        """The code's files; its sha256 is the code digest."""
        return self.path / "code.jsonl"

    @property
    def data_manifest(self) -> Path:
        """The data's files; its sha256 is the data digest."""
        return self.path / "data.jsonl"

    @property
    def inputs(self) -> Path:
        """The files that the run takes from the network, see `core.inputs_lock`; only if there are any."""
        return self.path / LOCK_NAME

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
    def worker_hosts(self) -> Path:
        """The address of each worker's node, which the launcher writes; missing where all work on one machine."""
        return self.workers / "hosts.json"

    @property
    def tunnel(self) -> Path:
        """Where the container of one of several workers finds the socket of its launcher; only within `staging`."""
        return self.path / "tunnel"

    def worker_entrance(self, index: int) -> Path:
        """Where launchers on other nodes find that of a worker in a container; there while its container may run."""
        return self.workers / f"entrance-{index}.json"

    @property
    def worker_meeting(self) -> Path:
        """Where workers of other nodes find the process that started the run."""
        return self.workers / "join.json"

    def of_worker(self, index: int) -> "WorkerDir":
        """The folder of a worker beside the chief, whose checkpoints and ledger stay in the run's."""
        return WorkerDir(self.workers / str(index), self.checkpoints.of_worker(index))

    @property
    def checkpoints_now(self) -> CheckpointStore:
        """The checkpoints. A container that died left them where it could write, until they are taken over."""
        staged = RunDir(self.staging).checkpoints
        ours = os.path.lexists(self.checkpoints.folder) or self.staging.is_symlink() or staged.folder.is_symlink()
        return self.checkpoints if ours or not staged.folder.is_dir() else staged

    @property
    def verification(self) -> Path:
        """The outcome of the verification, if this run verifies another."""
        return self.path / "verification.json"

    @property
    def manifest(self) -> Path:
        """Every file of this folder with its digest; the finalized record names the manifest's own."""
        return self.path / "files.jsonl"

    @property
    def text(self) -> Path:
        """The finalized record in words, for a person without samebits."""
        return self.path / "README.txt"

    @property
    def log(self) -> Path:
        """The script's stdout and stderr."""
        return self.path / "log.txt"

    @property
    def staging(self) -> Path:
        """What a container may write: a run's folder of its own, there until the launcher has taken everything over."""
        return self.path / "staging"

    @property
    def reserve(self) -> Path:
        """Disk space reserved while the script runs, so that the record can be finalized on a full disk."""
        return self.path / ".reserve"

    def create_inside(self) -> None:
        """Create the files and folders that are written while the run lasts."""
        for folder in (self.outputs, self.models):
            folder.mkdir()
        self.ledger.touch()
        self.reserve_space()

    def reserve_space(self) -> None:
        """Take the disk space for the last writes; raises OSError."""
        with self.reserve.open("wb") as file:
            # A sparse file would reserve nothing.
            os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)

    def read(self) -> Record:
        """The record. If the run died without finalizing it, the state is `interrupted`."""
        record = read_record(self.record)
        return record if record.finalized else replace(record, outcome=self._unfinished(record.host))

    def _unfinished(self, host: Host | None) -> Outcome:
        """How a run stands whose record is not finalized."""
        state = liveness(host, self.ledger, RunDir(self.staging).ledger)
        if state in (DEAD, HELD):
            return Outcome(state=INTERRUPTED, message=_DIED)
        return Outcome(state=RUNNING, message=_NOT_SEEN if state == UNKNOWN else None)

    def liveness(self, record: Record) -> str:
        """Whether the run of an unfinished record is alive, dead, held or unknown, see `core.liveness`."""
        return liveness(record.host, self.ledger, RunDir(self.staging).ledger)

    def late_records(self) -> list[Path]:
        """Records of a run that went on although another process had finalized it, oldest first."""
        found = {int(match[1] or 1): path for path in self.path.iterdir() if (match := _LATE.fullmatch(path.name))}
        return [found[number] for number in sorted(found)]

    def update(self, record: Record, version: str | None = None) -> None:
        """Write the record of a run that goes on, unless another process has finalized it."""
        with _exclusive(self.path):
            if not read_record(self.record).finalized:
                write_record(self.record, record, version)

    def finalize_or_beside(self, record: Record, known: Mapping[str, Digest], version: str | None = None) -> Path:
        """Finalize the record; returns its path, which is another one where the record is finalized already."""
        with _exclusive(self.path):
            if not read_record(self.record).finalized:
                self._finalize(record, known, version)
                return self.record
            number = len(self.late_records()) + 1
            suffix = ".late" if number == 1 else f".late-{number}"
            late = self.path / f"record{suffix}.json"
            files = self._write_manifest(self.path / f"files{suffix}.jsonl", known)
            write_record(late, replace(record, files=files))
            return late

    def finalize(self, record: Record, known: Mapping[str, Digest] = MappingProxyType({})) -> None:
        """Finalize the record, with a digest of every file; `known` holds digests by path that need not be computed.

        Raises RecordError where the record is finalized already.
        """
        with _exclusive(self.path):
            if read_record(self.record).finalized:
                raise RecordError(f"{self.record} is finalized already and stays as it is")
            self._finalize(record, known)

    def _finalize(self, record: Record, known: Mapping[str, Digest], version: str | None = None) -> None:
        # The reserve keeps room on the disk for these last writes.
        self.reserve.unlink(missing_ok=True)
        # There only if the process that started the workers was killed.
        with suppress(OSError):
            remove_tree(self.workers)
        self._write_text(record)
        finalize(self.record, replace(record, files=self._write_manifest(self.manifest, known)), version)

    def _write_text(self, record: Record) -> None:
        """The record in words; a run is worth more than these."""
        with suppress(OSError, StorageError):
            write_atomically(self.text, describe_record(record).encode("utf-8", "backslashreplace"), mode=0o444)

    def _write_manifest(self, target: Path, known: Mapping[str, Digest]) -> Digest | None:
        """The manifest's digest; None if it cannot be written: a run is worth more than its manifest."""
        with suppress(OSError, StorageError):
            return write_folder_manifest(self.path, target, known)
        return None

    def read_summary(self) -> RecordSummary:
        """The summary of the record, in the same way; its checksum is not checked."""
        return self.as_of_now(read_summary(self.record))

    def as_of_now(self, summary: RecordSummary) -> RecordSummary:
        """A summary of the record with the outcome that the run's processes show, if the record has none yet."""
        return summary if summary.finalized else replace(summary, outcome=self._unfinished(summary.host))


@dataclass(frozen=True, slots=True)
class WorkerDir(RunDir):
    """`runs/<id>/workers/<index>/`, and what stays of it where the run can be resumed."""

    store: CheckpointStore

    @property
    def failure(self) -> Path:
        """Why its node cannot start it; its folder may not be there by then."""
        return self.path.with_name(f"failed-{self.path.name}.txt")

    @property
    def preparing(self) -> Path:
        """What its node writes again and again while it hashes the data, and gets what it trains in."""
        return self.path.with_name(f"preparing-{self.path.name}.txt")

    @property
    def lost(self) -> Path:
        """Why its process will not come, though its node could start it."""
        return self.path.with_name(f"lost-{self.path.name}.txt")

    @property
    def ledger(self) -> Path:
        """The worker's own lines."""
        return self.store.ledger

    @property
    def checkpoints(self) -> CheckpointStore:
        """The worker's own checkpoints."""
        return self.store


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Let one process at a time write the record of a run."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Network file systems may know no such lock; then the check just before the writing must do.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def prepare_runs(runs: Path) -> None:
    """Create the folder of all runs with its marker; raises StorageError if it is not writable."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
        if not is_plain(runs / MARKER):
            # A cloned project may bring the folder, with a link in it.
            touch_plain(runs / MARKER)
    except OSError as error:
        raise storage_error(error, runs) from error


def claim(runs: Path, run_id: str) -> RunDir:
    """Create the folder of a new run. A name that exists gets a number. It becomes a run when its record is written."""
    for attempt in range(1, 1000):
        path = runs / (run_id if attempt == 1 else f"{run_id}-{attempt}")
        try:
            # mkdir is atomic, so two runs never share a folder.
            path.mkdir(mode=0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise storage_error(error, path) from error
        return RunDir(path)
    raise StorageError(f"{runs} holds a thousand runs named {run_id}; choose another folder with --runs")
