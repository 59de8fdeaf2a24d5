"""Checkpoints of a training that goes on, and the way back into one: what all stages have in common.

The script runs unchanged, and on resuming from its first line. A stage is one call of `fit` (`fits`), or one loop
around `samebits.checkpoint` (`rounds`). Each stage of which there is a checkpoint is put to it when it begins, those
that were over to their ends; so whatever the script does in between happens as it did.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from samebits.core.checkpoint_store import Checkpoint, Position, RetentionPolicy, describe_reached
from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError, SamebitsError, StorageError
from samebits.core.jsonio import canonical_json
from samebits.core.ledger import Ledger
from samebits.core.record import Record, Resumability
from samebits.core.run_dir import RunDir
from samebits.core.trace_level import TraceEnded
from samebits.runner.checkpoint.async_writer import AsyncWriter
from samebits.runner.checkpoint.capture import StateCapture, StateWalker
from samebits.runner.checkpoint.encoding import Content, PathMap, UncapturableError
from samebits.runner.checkpoint.global_rngs import generators
from samebits.runner.checkpoint.output_files import OutputSnapshot
from samebits.runner.checkpoint.restorability import check_restorable
from samebits.runner.checkpoint.restore import StateRestorer
from samebits.runner.process.console import log

T = TypeVar("T")
Known = Mapping[int, tuple[Any, Digest]]


class TrainingObserver(Protocol):
    """What observes a training: what it has seen so far goes over into the resumed run."""

    def work(self) -> AbstractContextManager[None]:
        """Our own work in the midst of the script."""

    def digested(self) -> Known:
        """Values and digests of the variables in the line of the epoch that just ended, by their id; once."""

    def told(self) -> dict[str, Any]:
        """What was seen so far, as JSON."""

    def tell(self, told: Mapping[str, Any]) -> None:
        """Take that over."""

    def first_steps(self) -> Sequence[Any]:
        """The optimizers that were seen to make a step, in the order of their first ones."""

    def stepped(self, optimizer: Any) -> None:
        """An optimizer has made a step."""


@dataclass(kw_only=True, slots=True)
class Phase:
    """One call of `fit`, or one loop: what its state is reached from, and what was taken out when it began."""

    number: int
    roots: dict[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class StatePart:
    """What one kind of stage adds to a checkpoint: values, and the bytes that they name."""

    values: Mapping[str, Any]
    contents: Mapping[str, Any] = field(default_factory=dict)


class CheckpointManager:
    """Takes a run's state out, and puts that of the run that it resumes back.

    `folders` are those that the run has elsewhere than another one: its own, and its data's. Without checkpoints to
    write or to go on from it does nothing.
    """

    def __init__(self, record: Record, run: RunDir, ledger: Ledger, folders: Mapping[str, Path]) -> None:
        resumes = record.origin.resumes
        self._start = None if resumes is None else resumes.checkpoint
        self._until = None if resumes is None else resumes.until
        self._store = store = run.checkpoints
        self._keeping: RetentionPolicy = record.retention
        self._recipe = record.recipe.digest
        self._ledger = ledger
        self._folders = PathMap({name: path.absolute() for name, path in folders.items()})
        self._reach = StateWalker(run.code, self._folders)
        self._writer = AsyncWriter(
            store, record.retention, ledger.sync
        )  # what a checkpoint names must not be lost before it
        self._written = OutputSnapshot(run.outputs, record.recipe.ignore_outputs, store, self._writer.taking.add)
        self._watched: TrainingObserver | None = None
        self._stages = 0
        self.stage: Phase | None = None
        self.began = False
        self.reasons: list[str] = []
        self.active = self._keeping.writes or self._start is not None or self._until is not None

    @property
    def resumable(self) -> Resumability | None:
        """As the record holds it."""
        if not self.began or not self._keeping.writes:
            return None
        return Resumability(resumable=not self.reasons, reasons=tuple(self.reasons))

    @property
    def writes(self) -> bool:
        """Whether the next checkpoint will be written."""
        return self._keeping.writes and not self.reasons and not self._writer.failed

    @property
    def every(self) -> int | None:
        """After how many steps there is one within epochs."""
        return self._keeping.every

    def watch(self, watched: TrainingObserver) -> None:
        """Have this observer's account kept as well."""
        self._watched = watched

    def work(self) -> AbstractContextManager[None]:
        """For our own work in the midst of the script."""
        return nullcontext() if self._watched is None else self._watched.work()

    @contextmanager
    def next_stage(self, stage: Phase) -> Iterator[None]:
        """A stage, from its beginning to its end; by then its last checkpoint is on the disk."""
        stage.number, self._stages = self._stages, self._stages + 1
        self.stage = stage
        try:
            yield
        finally:
            self.stage = None
            self._writer.wait()

    def begin(self, stage: Phase, check: Callable[[StateCapture], None]) -> Checkpoint | None:
        """Look at all that a checkpoint will hold, so that what cannot be kept is said before training.

        `check` is given what was found. Returns the checkpoint that the stage is to be put to.
        """
        self.began = True
        if self.writes:

            def look() -> None:
                found = self._reach.begin(stage.roots | generators())
                stage.before = found.encoded
                check(found)

            self.attempt(look)
        return self._checkpoint_of(stage)

    def attempt(self, what: Callable[[], T]) -> T | None:
        """What this gives; where it finds state that cannot be kept, that is said, and it gives None."""
        try:
            return what()
        except UncapturableError as error:
            self.refuse(str(error))
        except StorageError as error:
            self._writer.fail(error)
        except SamebitsError:
            raise
        except Exception as error:  # noqa: BLE001  a defect of ours must not cost the training
            self.refuse(f"samebits failed to take its state out: {error!r}; please report it")
        return None

    def refuse(self, reason: str) -> None:
        """The run cannot be resumed exactly from here on: say so, and write no more checkpoints."""
        if reason in self.reasons or not self._keeping.writes or not self.active:
            return
        self.reasons.append(reason)
        log(f"this run cannot be resumed exactly: {reason}")
        with suppress(StorageError):  # the sealed record will tell
            self._store.refuse(self.reasons)

    def turn_off(self, reason: str) -> None:
        """Write no checkpoint, and have the record say why the run cannot be resumed."""
        self.began, self.active = True, False
        self.reasons.append(reason)
        if self._keeping.writes:
            with suppress(StorageError):  # the sealed record will tell
                self._store.refuse(self.reasons)

    def reach(self, roots: Mapping[str, Any]) -> StateCapture:
        """Take out what these reach alone; raises UnsavableError."""
        return self._reach.take(roots)

    def take(self, roots: Mapping[str, Any], known: Known = MappingProxyType({})) -> StateCapture:
        """Take out what these reach, and the generators that belong to nobody; raises UnsavableError."""
        return self._reach.take(dict(roots) | generators(), known)

    def keep(
        self,
        stage: Phase,
        place: Position,
        part: Callable[[], StatePart],
        *,
        without: frozenset[str] = frozenset(),
        more: Mapping[str, Any] = MappingProxyType({}),
        settled: bool = False,
    ) -> None:
        """Have a checkpoint written, `without` some of the roots and with `more`; end the run if it was to end here.

        `settled` says that the variables are still as the ledger's last line has them.
        """
        if self.writes:
            roots = {name: value for name, value in stage.roots.items() if name not in without} | dict(more)
            known = {} if self._watched is None or not settled else self._watched.digested()
            found = self.attempt(lambda: self._taken(stage, place, part(), roots, known))
            if found is not None:
                self._writer.add(*found)
        if self._until == place:
            raise TraceEnded(describe_reached(place))

    def wait(self) -> None:
        """Until all checkpoints are on the disk."""
        self._writer.wait()

    def resume_at(self, found: Checkpoint) -> None:
        """Take the ledger to where it was."""
        self._ledger.resume_at(found.lines, found.last)

    def put_back(
        self,
        stage: Phase,
        found: Checkpoint,
        *,
        without: frozenset[str] = frozenset(),
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Put everything back that all stages have in common; raises InputError."""
        state = found.state
        self.resume_at(found)
        with as_input(self._start):
            self._written.put_back(state["written"])
        putting = self.put_objects_back(state["objects"], stage.roots | dict(more), without=without)
        for index in state["stepped"]:
            if self._watched is not None:
                self._watched.stepped(putting.optimizers[index])
        if self._watched is not None:
            self._watched.tell(state["told"])

    def put_objects_back(
        self, encoded: Mapping[str, Any], roots: Mapping[str, Any], *, without: frozenset[str] = frozenset()
    ) -> StateRestorer:
        """Put back what was taken out of these roots and of the generators; raises InputError."""
        names = [name for name, _ in encoded["roots"] if name not in without]
        putting = StateRestorer(Content(self._store.content), self._folders)
        live = dict(roots) | generators(wanted=frozenset(names))
        wanted = [item for item in encoded["roots"] if item[0] not in without]
        with as_input(self._start):
            self._reach.confine(encoded["globals"])
            putting.roots({"roots": wanted, "globals": encoded["globals"]}, live)
        return putting

    def _checkpoint_of(self, stage: Phase) -> Checkpoint | None:
        """The one that a stage is put to: where the run goes on, or for a stage before that one, its last."""
        if self._start is None or stage.number > self._start.phase:
            return None
        place = next((place for place in self._store.needed(self._start) if place.phase == stage.number), None)
        if place is None:
            return None
        found = self._store.read(place)
        if found.recipe != self._recipe:
            raise InputError(f"the checkpoint {place.name} belongs to another recipe; train anew")
        return found

    def _taken(
        self, stage: Phase, place: Position, part: StatePart, roots: Mapping[str, Any], known: Known
    ) -> tuple[Checkpoint, Mapping[str, Any]]:
        taking = self.take(roots, known)
        check_restorable(taking.encoded, stage.before)
        watched = self._watched
        written = self._written.take()
        state: dict[str, Any] = {
            "objects": taking.encoded,
            "stepped": [] if watched is None else _indices(watched.first_steps(), taking.optimizers),
            "told": {} if watched is None else watched.told(),
            "written": written,
            **part.values,
        }
        contents = {**part.contents, **taking.contents}
        objects = sorted(contents.keys() | {digest for _, _, digest in written["files"]})
        canonical_json(state)  # what is no JSON, as half a character, is found here
        checkpoint = Checkpoint(
            position=place,
            recipe=self._recipe,
            lines=self._ledger.lines,
            last=self._ledger.last,
            state=state,
            objects=tuple(objects),
        )
        return checkpoint, contents


def _indices(wanted: Sequence[Any], known: Sequence[Any]) -> list[int]:
    """Where in a list objects stand, those that do."""
    return [index for item in wanted for index, other in enumerate(known) if item is other]


@contextmanager
def as_input(start: Position | None) -> Iterator[None]:
    """Turn what goes wrong while state is put back into an InputError."""
    try:
        yield
    except (UncapturableError, RecordError) as error:
        raise InputError(f"cannot resume from {start}: {error}; train anew") from error
