"""Checkpoints: the saved state of a run, from which it can be resumed to the same bits.

A checkpoint is a JSON file `<phase>-<epochs>[-<steps>].json` with a checksum like the record's. It refers to bytes by
their sha256; each content is stored once, under `objects/`. A checkpoint contains no code, and reading it runs none.

A phase is one call of `fit`, or one loop wrapped in `samebits.checkpoint`. Phases count from 0 in the order in which
they begin. To resume from a checkpoint, the last checkpoint of each earlier phase is needed, too. The script runs from
its first line, and each finished phase is restored to its end without training.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from samebits.core.digest import Digest, confirmed_fields, with_checksum
from samebits.core.errors import RecordError, pluralize
from samebits.core.jsonio import (
    Fields,
    canonical_json,
    read_json,
    reading,
    storage_error,
    sync_folder,
    write_all,
    write_atomically,
)
from samebits.core.retention import RetentionPolicy
from samebits.core.run_files import open_plain, plain_names, plain_sha256

CHECKPOINT_FORMAT = "samebits.checkpoint"
CHECKPOINT_VERSION = "1.0"
_OTHER_CONTENT = "does not match the digest in its name: it was changed after it was written"
KEPT = 2
"""Checkpoints that stay of a run: to resume is to begin at the last but one, and to reproduce the last."""
InUse = Callable[[], AbstractContextManager[frozenset[str]]]
# Zero-padded, so that names sort as numbers; longer numbers are allowed.
_POSITION_NAME = re.compile(r"([0-9]{4,18})-([0-9]{6,18})(?:-([0-9]{8,18}))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """A position in a run: the phase, its finished epochs, and the steps into the next epoch, if any."""

    phase: int
    epoch: int
    step: int | None = None

    @property
    def name(self) -> str:
        """The name of the checkpoint's file without `.json`; names sort as positions do."""
        return f"{self.phase:04d}-{self.epoch:06d}" + ("" if self.step is None else f"-{self.step:08d}")

    @classmethod
    def parse(cls, name: str) -> Self:
        """Parse the name of a checkpoint; raises RecordError."""
        match = _POSITION_NAME.fullmatch(name)
        if match is None:
            raise RecordError(f"{name!r} does not name a checkpoint")
        phase, epoch, step = match.groups()
        return cls(phase=int(phase), epoch=int(epoch), step=None if step is None else int(step))

    @property
    def order(self) -> tuple[int, int, int]:
        """The sort key: the earlier position first."""
        return self.phase, self.epoch, self.step or 0

    def __str__(self) -> str:
        steps = "" if self.step is None else f", {pluralize(self.step, 'step')} into the next"
        return f"phase {self.phase} after {pluralize(self.epoch, 'epoch')}{steps}"


def describe_reached(position: Position) -> str:
    """The outcome's message of a run that ended at the requested position."""
    return f"ended at {position}, as asked"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """One checkpoint.

    `lines` and `last` are the number of ledger lines so far and the digest of the last. `state` is written and read by
    the runner. `objects` are the digests of the bytes that `state` refers to.
    """

    position: Position
    recipe: Digest
    lines: int
    last: Digest
    state: Mapping[str, Any]
    objects: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As the file stores it."""
        body: dict[str, Any] = {
            "format": CHECKPOINT_FORMAT,
            "version": CHECKPOINT_VERSION,
            "place": self.position.name,
            "recipe": str(self.recipe),
            "ledger": {"lines": self.lines, "last": str(self.last)},
            "objects": list(self.objects),
            "state": dict(self.state),
        }
        # The checksum covers every other value, so that a later edit is found.
        return with_checksum(body)

    @classmethod
    def from_dict(cls, value: object) -> Self:
        """Parse the output of `to_dict`; raises RecordError."""
        fields = confirmed_fields(value, CHECKPOINT_FORMAT, CHECKPOINT_VERSION)
        ledger = fields.inner("ledger")
        return cls(
            position=fields.parse("place", Position.parse),
            recipe=fields.parse("recipe", Digest.parse),
            lines=ledger.get("lines", int),
            last=ledger.parse("last", Digest.parse),
            state=fields.get("state", dict),
            objects=fields.texts("objects"),
        )


@dataclass(frozen=True, slots=True)
class CheckpointStore:
    """The folder `checkpoints/` of a run; of one worker beside the chief, a folder in it.

    `within` is the run's folder where that is not the folder above.
    """

    folder: Path
    within: Path | None = None

    @property
    def objects(self) -> Path:
        """The folder of the stored bytes, each file named by its sha256."""
        return self.folder / "objects"

    @property
    def run(self) -> Path:
        """The run's folder, which nothing that is read may leave."""
        return self.within or self.folder.parent

    def of_worker(self, index: int) -> "CheckpointStore":
        """What a worker beside the chief keeps, with its own ledger."""
        return CheckpointStore(self.folder / "workers" / str(index), self.run)

    @property
    def ledger(self) -> Path:
        """The ledger of a worker beside the chief."""
        return self.folder / "ledger.jsonl"

    @property
    def refusal(self) -> Path:
        """A file that exists if the run cannot be resumed exactly; it holds the reasons."""
        return self.folder / "refused.json"

    def path(self, position: Position) -> Path:
        """The path of a checkpoint's file."""
        return self.folder / f"{position.name}.json"

    def positions(self) -> list[Position]:
        """The positions of all checkpoints, in order."""
        try:
            found = plain_names(self.folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RecordError(f"cannot read {self.folder}: {error.strerror}") from error
        names = [name.removesuffix(".json") for name in found if name.endswith(".json")]
        positions = (Position.parse(name) for name in names if _POSITION_NAME.fullmatch(name))
        return sorted(positions, key=lambda position: position.order)

    def needed(self, position: Position) -> list[Position]:
        """The checkpoints needed to resume from one: the last of each earlier phase, then the checkpoint itself."""
        last = {found.phase: found for found in self.positions() if found.order <= position.order}
        return [last[phase] for phase in sorted(last) if phase < position.phase] + [position]

    def read(self, position: Position) -> Checkpoint:
        """Read and check a checkpoint; raises RecordError with the file's path."""
        path = self.path(position)
        value = read_json(path, self.run)
        with reading(path):
            found = Checkpoint.from_dict(value)
        # The checksum does not cover the name of the file.
        if found.position != position:
            raise RecordError(f"{path} holds the checkpoint {found.position.name}: it was renamed")
        return found

    def content(self, digest: Digest) -> bytes:
        """Stored bytes, checked against their digest; raises RecordError."""
        path = self.objects / digest.hex
        try:
            with open_plain(path, self.run) as file:
                content = file.read()
        except OSError as error:
            raise RecordError(f"cannot read {path}: {error.strerror}") from error
        if Digest.of_bytes(content) != digest:
            raise RecordError(f"{path} {_OTHER_CONTENT}")
        return content

    def check_content(self, digest: Digest) -> None:
        """Raise RecordError unless stored bytes have their digest; they are not held in memory."""
        path = self.objects / digest.hex
        try:
            found = plain_sha256(path, self.run)
        except OSError as error:
            raise RecordError(f"cannot read {path}: {error.strerror}") from error
        if found != digest.hex:
            raise RecordError(f"{path} {_OTHER_CONTENT}")

    def write(self, checkpoint: Checkpoint, contents: Mapping[str, Any]) -> None:
        """Write a checkpoint after those of its objects that are not stored yet; raises StorageError.

        `contents` maps the written form of a digest to bytes. Because the checkpoint comes last, everything that
        `positions` lists is complete and on the disk, whenever the process ends.
        """
        try:
            self.objects.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, self.objects) from error
        paths = {text: self.objects / Digest.parse(text).hex for text in checkpoint.objects}
        # Checkpoints share equal contents, so an object may exist already.
        write_all({path: contents[text] for text, path in paths.items() if not path.exists()})
        # Read-only, because a checkpoint never changes after it is written.
        write_atomically(self.path(checkpoint.position), canonical_json(checkpoint.to_dict()), mode=0o444)

    def store_file(self, path: Path, announce: Callable[[str], None] = lambda _: None) -> Digest:
        """Store a copy of a file; raises StorageError.

        `announce` gets the digest before the file has its final name, so that `prune` in another thread can spare it.
        """
        file = None
        try:
            self.objects.mkdir(parents=True, exist_ok=True)
            with (
                tempfile.NamedTemporaryFile(dir=self.objects, prefix=".", delete=False) as file,
                path.open("rb") as read,
            ):
                shutil.copyfileobj(read, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())
            # The digest is that of the copy: the script may write to the original meanwhile.
            digest = Digest.of_file(Path(file.name))
            # Announced before the rename, so that a concurrent `prune` does not remove the object.
            announce(str(digest))
            # Read-only before the rename, so that no writable object is ever visible.
            os.chmod(file.name, 0o444)
            os.replace(file.name, self.objects / digest.hex)
            sync_folder(self.objects)
        except OSError as error:
            if file is not None:
                Path(file.name).unlink(missing_ok=True)
            raise storage_error(error, self.objects) from error
        return digest

    def prune(
        self, policy: RetentionPolicy, in_use: InUse = lambda: nullcontext(frozenset()), least: int = KEPT
    ) -> None:
        """Remove checkpoints that the policy does not retain, and objects that no checkpoint needs.

        The last checkpoint of each phase is kept, and the last `least` of the run. `in_use` opens a context with the
        objects of checkpoints that are not written yet; none is added within it.
        """
        positions = self.positions()
        last = {position.phase: position for position in positions}
        kept = {*last.values(), *positions[-least:]}
        over = [item for item in positions if item not in kept and not policy.retains(item.epoch, item.step)]
        # Without anything to remove, the remaining checkpoints need not be read.
        if not over:
            return
        dropped = self._objects_of(over)
        # Checkpoints go first: one whose objects are missing must never be left.
        for position in over:
            self.path(position).unlink(missing_ok=True)
        for text in dropped - self._objects_of(self.positions()):
            with in_use() as used:
                if text not in used:
                    (self.objects / Digest.parse(text).hex).unlink(missing_ok=True)

    def _objects_of(self, positions: Sequence[Position]) -> set[str]:
        return {text for position in positions for text in self.read(position).objects}

    def refuse(self, reasons: Sequence[str]) -> None:
        """Record why the run cannot be resumed. It writes no checkpoint from then on."""
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise storage_error(error, self.folder) from error
        write_atomically(self.refusal, canonical_json({"reasons": list(reasons)}))

    def accept(self) -> None:
        """Withdraw the reasons: the run writes checkpoints after all."""
        self.refusal.unlink(missing_ok=True)

    def refused(self) -> tuple[str, ...]:
        """Why the run cannot be resumed; empty if it can. Raises RecordError."""
        if not self.refusal.exists():
            return ()
        value = read_json(self.refusal, self.run)
        with reading(self.refusal):
            return Fields(value).texts("reasons")
