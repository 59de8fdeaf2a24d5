"""Checkpoints: what a run was in between, kept so that it can go on from there to the very same bits.

A checkpoint is one JSON file, `<stage>-<epochs>[-<steps>].json`, sealed like a record, and the bytes that it names by
their sha256, each kept once under `objects/`. Nothing in them is code, and reading them runs none.

A stage is one call of `fit`, or one loop around `samebits.checkpoint`; stages count from 0 in the order they begin.
To go on from a checkpoint, the last one of each stage before it is needed, too: the script runs from its first line,
and each finished stage is put to its end without training.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from samebits.core.digest import Digest, confirm_checksum
from samebits.core.errors import InputError, RecordError
from samebits.core.jsonio import (
    Fields,
    canonical_json,
    check_version,
    storage_error,
    sync_folder,
    write_all,
    write_atomically,
)

CHECKPOINT_FORMAT = "samebits.checkpoint"
CHECKPOINT_VERSION = "1.0"
ALL = "all"
LAST = "last"
NONE = "none"
_EVERY_STEPS = "every:"
_NAME = re.compile(r"(\d{4,})-(\d{6,})(?:-(\d{8,}))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class RetentionPolicy:
    """Which checkpoints a run writes and keeps; decides no bit of the result.

    One is written at the end of every epoch, and within epochs after every `every` steps. `keep` is `all` of them; the
    `last` of each stage; of those at the ends of epochs `every:N`th and the last; or `none`.
    """

    keep: str = LAST
    every: int | None = None

    def __post_init__(self) -> None:
        number = self.keep.removeprefix(_EVERY_STEPS)
        if self.keep not in (ALL, LAST, NONE) and not (number != self.keep and number.isdecimal() and int(number) > 0):
            raise InputError(f"keep must be all, last, none or every:N, not {self.keep!r}")
        if self.every is not None and self.every < 1:
            raise InputError(f"checkpoint-every is a number of steps from 1, not {self.every}")
        if self.keep == NONE and self.every is not None:
            raise InputError("with keep none no checkpoint is written; drop checkpoint-every")

    @property
    def writes(self) -> bool:
        """Whether there are checkpoints at all."""
        return self.keep != NONE

    def retains(self, place: "Position") -> bool:
        """Whether the checkpoint at this place stays when a later one of its stage is there."""
        if self.keep == ALL:
            return True
        return (
            self.keep.startswith(_EVERY_STEPS)
            and place.step is None
            and place.epoch % int(self.keep[len(_EVERY_STEPS) :]) == 0
        )

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        return {"keep": self.keep, "every": self.every}

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """Read what `to_dict` wrote; raises RecordError."""
        try:
            return cls(keep=fields.get("keep", str), every=fields.optional("every", int))
        except InputError as error:
            raise RecordError(f"'{fields.path('keep')}': {error}") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far a run has come: a stage, the epochs of it that are done, and the steps of the next one, if any."""

    phase: int
    epoch: int
    step: int | None = None

    @property
    def name(self) -> str:
        """Of the checkpoint's file, without `.json`; names sort as places do."""
        return f"{self.phase:04d}-{self.epoch:06d}" + ("" if self.step is None else f"-{self.step:08d}")

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read a name; raises RecordError."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise RecordError(f"{name!r} does not name a checkpoint")
        phase, epoch, step = match.groups()
        return cls(phase=int(phase), epoch=int(epoch), step=None if step is None else int(step))

    @property
    def order(self) -> tuple[int, int, int]:
        """Sorts places by how far they are."""
        return self.phase, self.epoch, self.step or 0

    def __str__(self) -> str:
        steps = "" if self.step is None else f", {self.step} steps into the next"
        return f"phase {self.phase} after {self.epoch} epoch{'' if self.epoch == 1 else 's'}{steps}"


def describe_reached(place: Position) -> str:
    """What a run says that ended where it was asked to."""
    return f"ended at {place}, as asked"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """One checkpoint. `lines` and `last` say how far the ledger was; `state` is what the container side put there.

    `objects` are the digests of the bytes that `state` names.
    """

    position: Position
    recipe: Digest
    lines: int
    last: Digest
    state: Mapping[str, Any]
    objects: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As the file holds it."""
        body: dict[str, Any] = {
            "format": CHECKPOINT_FORMAT,
            "version": CHECKPOINT_VERSION,
            "place": self.position.name,
            "recipe": str(self.recipe),
            "ledger": {"lines": self.lines, "last": str(self.last)},
            "objects": list(self.objects),
            "state": dict(self.state),
        }
        return body | {"seal": str(Digest.of_json(body))}

    @classmethod
    def from_dict(cls, value: object) -> Self:
        """Read what `to_dict` wrote; raises RecordError."""
        fields = Fields(value)
        check_version(fields, CHECKPOINT_FORMAT, CHECKPOINT_VERSION)
        confirm_checksum(value, "checkpoint")
        ledger = fields.inner("ledger")
        return cls(
            position=Position.parse(fields.get("place", str)),
            recipe=Digest.parse(fields.get("recipe", str)),
            lines=ledger.get("lines", int),
            last=Digest.parse(ledger.get("last", str)),
            state=fields.get("state", dict),
            objects=fields.texts("objects"),
        )


@dataclass(frozen=True, slots=True)
class CheckpointStore:
    """A run's `checkpoints/`."""

    folder: Path

    @property
    def objects(self) -> Path:
        """Bytes by their sha256."""
        return self.folder / "objects"

    @property
    def refusal(self) -> Path:
        """Written where a run found out that it cannot be resumed exactly, and why."""
        return self.folder / "refused.json"

    def path(self, place: Position) -> Path:
        """The file of a checkpoint."""
        return self.folder / f"{place.name}.json"

    def positions(self) -> list[Position]:
        """Of every checkpoint there is, the furthest last."""
        try:
            names = [path.stem for path in self.folder.iterdir() if path.suffix == ".json"]
        except FileNotFoundError:
            return []
        return sorted((Position.parse(name) for name in names if _NAME.fullmatch(name)), key=lambda place: place.order)

    def needed(self, place: Position) -> list[Position]:
        """What it takes to go on from a checkpoint: itself, and the furthest one of each stage before."""
        furthest = {found.phase: found for found in self.positions() if found.order <= place.order}
        return [furthest[stage] for stage in sorted(furthest) if stage < place.phase] + [place]

    def read(self, place: Position) -> Checkpoint:
        """Read one; raises RecordError, which names the file."""
        path = self.path(place)
        try:
            found = Checkpoint.from_dict(json.loads(path.read_bytes()))
        except OSError as error:
            raise RecordError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, RecursionError, RecordError) as error:
            raise RecordError(f"{path}: {error}") from error
        if found.position != place:
            raise RecordError(f"{path} holds the checkpoint {found.position.name}: it was renamed")
        return found

    def content(self, digest: Digest) -> bytes:
        """Bytes that a checkpoint names, compared with their digest; raises RecordError."""
        path = self.objects / digest.hex
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RecordError(f"cannot read {path}: {error.strerror}") from error
        if Digest.of_bytes(content) != digest:
            raise RecordError(f"{path} is not what its name says: it was changed after it was written")
        return content

    def write(self, checkpoint: Checkpoint, contents: Mapping[str, Any]) -> None:
        """Write one, after the bytes it names that are not there yet (`contents` by digest); raises StorageError.

        Whenever the process ends: what `places` tells of is whole, and on the disk.
        """
        try:
            self.objects.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, self.objects) from error
        paths = {text: self.objects / Digest.parse(text).hex for text in checkpoint.objects}
        write_all({path: contents[text] for text, path in paths.items() if not path.exists()})
        write_atomically(self.path(checkpoint.position), canonical_json(checkpoint.to_dict()), mode=0o444)

    def store_file(self, path: Path, announce: Callable[[str], None] = lambda _: None) -> Digest:
        """Keep a copy of a file; raises StorageError. `announce` is told its digest before it can be removed again."""
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
            digest = Digest.of_file(Path(file.name))
            announce(str(digest))
            os.chmod(file.name, 0o444)
            os.replace(file.name, self.objects / digest.hex)
            sync_folder(self.objects)
        except OSError as error:
            if file is not None:
                Path(file.name).unlink(missing_ok=True)
            raise storage_error(error, self.objects) from error
        return digest

    def prune(self, keeping: RetentionPolicy, coming: Callable[[], frozenset[str]] = frozenset) -> None:
        """Remove what is not to be kept: a later checkpoint of its stage is there.

        `coming` gives the bytes that checkpoints name which are still to be written.
        """
        places = self.positions()
        furthest = {place.phase: place for place in places}
        over = [place for place in places if place != furthest[place.phase] and not keeping.retains(place)]
        if not over:
            return
        dropped = {text for place in over for text in self.read(place).objects}
        for place in over:
            self.path(place).unlink(missing_ok=True)
        used = {text for place in self.positions() for text in self.read(place).objects}
        for text in dropped - used:
            if text not in coming():
                (self.objects / Digest.parse(text).hex).unlink(missing_ok=True)

    def refuse(self, reasons: Sequence[str]) -> None:
        """Write down why a run cannot be resumed; from here on it writes no checkpoint."""
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise storage_error(error, self.folder) from error
        write_atomically(self.refusal, canonical_json({"reasons": list(reasons)}))

    def refused(self) -> tuple[str, ...]:
        """Why a run cannot be resumed; nothing where nothing of the kind was found. Raises RecordError."""
        try:
            return Fields(json.loads(self.refusal.read_bytes())).texts("reasons")
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, RecordError) as error:
            raise RecordError(f"{self.refusal}: {error}") from error

    def share(self, places: Sequence[Position], other: "CheckpointStore") -> None:
        """Put checkpoints into another run's folder as well: the same files where the disk can, else copies."""
        try:
            other.objects.mkdir(parents=True, exist_ok=True)
            for place in places:
                for text in self.read(place).objects:
                    name = Digest.parse(text).hex
                    _link(self.objects / name, other.objects / name)
                _link(self.path(place), other.path(place))
        except OSError as error:
            raise storage_error(error, other.folder) from error


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        write_atomically(target, source.read_bytes(), mode=0o444)
