"""The checkpoint manager: what saving and restoring have in common for every phase of a run.

A resumed run executes the unchanged script from its first line. A phase is one call of `fit` (`fit_checkpoints`), or
one loop wrapped in `samebits.checkpoint` (`loop_checkpoints`). Each phase that has a checkpoint is restored when it
begins, a finished one to its end. So everything that the script does between phases happens as in the original run.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from samebits.core.checkpoint_store import KEPT, Checkpoint, Position, describe_reached
from samebits.core.digest import Digest
from samebits.core.errors import InputError, SamebitsError, StorageError
from samebits.core.ledger import Ledger
from samebits.core.record import Record, Resumability
from samebits.core.run_dir import RunDir
from samebits.core.trace_level import TraceEnded
from samebits.runner.checkpoint.async_writer import AsyncWriter
from samebits.runner.checkpoint.checkpoint_content import checkpoint_of
from samebits.runner.checkpoint.files.output_files import OutputSnapshot
from samebits.runner.checkpoint.files.temporary_files import TemporaryFiles
from samebits.runner.checkpoint.phases import DigestedValues, Phase, StatePart, TrainingObserver, as_input_error
from samebits.runner.checkpoint.process_state.library_state import LibraryState
from samebits.runner.checkpoint.process_state.process_settings import ProcessSettings
from samebits.runner.checkpoint.refusals import Refusals
from samebits.runner.checkpoint.replay import ReplayProof
from samebits.runner.checkpoint.state.capture import StateCapture
from samebits.runner.checkpoint.state.encoding import Content, PathMap, UncapturableError
from samebits.runner.checkpoint.state.initial_objects import InitialObjects
from samebits.runner.checkpoint.state.restorability import check_steps, completed
from samebits.runner.checkpoint.state.restore import StateRestorer
from samebits.runner.checkpoint.state.state_comparison import TEMPORARY
from samebits.runner.checkpoint.state.state_walker import StateWalker

T = TypeVar("T")


class CheckpointManager:
    """Saves checkpoints of a run, and restores those of the run that it resumes.

    `folders` are the paths that differ between runs: the run's own folder, and that of its data. `temporary` is a
    folder for temporary files that nothing else uses. The manager does nothing in a run that neither writes checkpoints
    nor resumes from one.
    """

    def __init__(
        self,
        record: Record,
        run: RunDir,
        ledger: Ledger,
        folders: Mapping[str, Path],
        is_given: Callable[[str], bool],
        libraries: LibraryState,
        temporary: Path | None = None,
    ) -> None:
        self.libraries = libraries
        resumes = record.origin.resumes
        self._start = None if resumes is None else resumes.checkpoint
        self._until = None if resumes is None else resumes.until
        self._store = store = run.checkpoints
        self.proof = ReplayProof(store, resumes, run.work)
        self._retention, self._recipe = record.retention, record.recipe.digest
        self.workers = record.recipe.world_size
        self.ledger = ledger
        self._folders = PathMap({name: path.absolute() for name, path in folders.items()})
        self.walker = StateWalker(run.work, self._folders)
        self.settings = ProcessSettings(self.walker, run)
        # A power failure must not lose ledger lines that a checkpoint on the disk refers to.
        self._writer = AsyncWriter(store, record.retention, ledger.sync, KEPT + (self.workers > 1))
        announce, ignore = self._writer.announce, record.recipe.ignore_outputs
        self.temporary = TemporaryFiles(temporary, store, announce)
        self._files: dict[str, OutputSnapshot | TemporaryFiles] = {
            "written": OutputSnapshot(run.outputs, ignore, store, announce),
            "written_beside_code": OutputSnapshot(run.work, ignore, store, announce, leave_out=is_given),
            TEMPORARY: self.temporary,
        }
        self._observer: TrainingObserver | None = None
        self.phases = 0  # that have begun
        self.phase: Phase | None = None
        self.refusals = Refusals(store, writes=record.retention.writes)
        self._trial = record.trial
        self._saved = 0
        self.active = self._retention.writes or self._start is not None or self._until is not None

    @property
    def resumable(self) -> Resumability | None:
        """Whether the run can be resumed, as the record stores it."""
        return self.refusals.resumability()

    @property
    def writes(self) -> bool:
        """Whether the next checkpoint will be written."""
        return self._retention.writes and not self.refusals.reasons and not self._writer.failed

    @property
    def every(self) -> int | None:
        """The number of steps between checkpoints within an epoch; several workers write none there."""
        return self._retention.every if self.workers == 1 else None

    @property
    def epoch_steps(self) -> int | None:
        """The most steps of an epoch, in a trial."""
        return None if self._trial is None else self._trial.epoch_steps

    def know_addresses(self, addresses: Sequence[str]) -> None:
        """Save the addresses of the workers as marks, as they differ between runs."""
        self._folders.add({f"worker {index}": address for index, address in enumerate(addresses)})

    def watch(self, observer: TrainingObserver) -> None:
        """Save what this observer has seen, too."""
        self._observer = observer

    def work(self) -> AbstractContextManager[None]:
        """A context for samebits' own work while the script runs."""
        return nullcontext() if self._observer is None else self._observer.work()

    @contextmanager
    def next_phase(self, phase: Phase) -> Iterator[None]:
        """Run one phase. At its end, all of its checkpoints are on the disk."""
        # Phases are numbered in their order, which is the same when the script runs again.
        phase.number, self.phases = self.phases, self.phases + 1
        self.phase = phase
        try:
            yield
        finally:
            self.phase = None
            self._writer.wait()

    def begin(self, phase: Phase, check: Callable[[StateCapture], None], *, kept: bool = False) -> Checkpoint | None:
        """Begin a phase: capture its initial state, so that what is not capturable is reported before training.

        `check` receives that state; `kept` is whether it keeps it. Returns the checkpoint from which the phase must be
        restored, if there is one.
        """
        self.refusals.begin()
        self.temporary.begin()
        phase.stepped = 0 if self._observer is None else len(self._observer.first_steps())
        self.proof.begin_phase(phase.number)
        self.libraries.begin_phase()

        # What is not capturable is found here, before hours of training.
        def inspect() -> None:
            captured = self.walker.capture_initial(phase.roots | self.libraries.roots())
            phase.objects = InitialObjects(captured, self.walker, kept=kept and self.writes)
            if self.writes:
                phase.initial, phase.settings = captured.encoded, self.settings.begin_phase(captured)
                check(captured)

        found = self._checkpoint_of(phase)
        if self.writes or found is not None:
            self.attempt(inspect)
        return found

    def complete_initial(self, phase: Phase) -> None:
        """Add to a phase's initial state what its first step built, which a resumed run builds before it restores."""
        built = self.attempt(lambda: self.walker.capture(phase.roots | self.libraries.roots()))
        phase.initial = completed(phase.initial, {} if built is None else built.encoded)

    def attempt(self, action: Callable[[], T]) -> T | None:
        """Call `action` and return its result. If state is not capturable, report that and return None."""
        try:
            return action()
        except UncapturableError as error:
            self.refuse(str(error))
        except StorageError as error:
            self._writer.fail(error)
        except SamebitsError:
            raise
        except Exception as error:  # noqa: BLE001  a defect of samebits must not end the training
            self.refuse(f"samebits failed to capture its state: {error!r}; please report it")
        return None

    def refuse(self, reason: str) -> None:
        """Report that the run cannot be resumed exactly, and write no more checkpoints."""
        if self.active:
            self.refusals.add(reason)

    def step_outside(self, optimizer: str) -> None:
        """Note that an optimizer makes steps in no phase."""
        if not self._writer.failed:
            self.refusals.step_outside(optimizer)

    def turn_off(self, reason: str) -> None:
        """Write no checkpoint; the record says why the run cannot be resumed."""
        self.active = False
        self.refusals.turn_off(reason)

    def capture_only(self, roots: Mapping[str, Any], *, frozen: bool = False) -> StateCapture:
        """Capture what these roots refer to, and nothing else; `frozen` without variables. Raises UncapturableError."""
        return self.walker.capture(roots, frozen=frozen)

    def capture(self, roots: Mapping[str, Any], known: DigestedValues = MappingProxyType({})) -> StateCapture:
        """Capture what these roots refer to, and the global random generators. Raises UncapturableError."""
        return self.walker.capture(dict(roots) | self.libraries.roots(), known)

    def can_leave_out(self, position: Position) -> bool:
        """Whether no checkpoint is needed at the end of this epoch, which is not the last: another one follows soon.

        What is known of its variables is forgotten then.
        """
        # Several workers keep the same checkpoints, whatever time each takes. Segments end where others did.
        if self.every or self._trial or self.workers > 1 or self._until is not None:
            return False
        if self._retention.retains(position.epoch, position.step):
            return False
        if not self.proof.precedes(position) and not (self.proof.complete and self._writer.is_early):
            return False
        if self._observer is not None:
            self._observer.digested()
        return True

    def save(
        self,
        phase: Phase,
        position: Position,
        part: Callable[[], StatePart],
        *,
        without: frozenset[str] = frozenset(),
        more: Mapping[str, Any] = MappingProxyType({}),
        settled: bool = False,
    ) -> None:
        """Write a checkpoint, `without` some of the phase's roots and with `more`.

        `settled` says that no variable changed since the ledger's last line, so that its digests can be used again.
        Raises TraceEnded if the run was to end at this position, and InputError if it should have reproduced the
        checkpoint of the run that it resumes.
        """
        roots = {name: value for name, value in phase.roots.items() if name not in without} | dict(more)
        captured, begun = None, time.monotonic()
        if self.writes:
            known = {} if self._observer is None or not settled else self._observer.digested()
            captured = self.attempt(lambda: self._checkpoint_at(position, phase, part(), roots, known))
        # Compared before it is written: a training that went another way leaves no checkpoint of it.
        self.proof.check(captured and captured[0], position, lambda: roots | self.libraries.roots())
        if captured is not None:
            self._writer.add(*captured, begun)
            self._saved += 1
            if self.workers > 1:
                # No worker gets ahead by more than one checkpoint, so that all have the same last two.
                self._writer.wait()
        # A trial that cannot be resumed has shown what it was to show.
        if (trial := self._trial) and trial.checkpoints and (self.refusals.reasons or self._saved == trial.checkpoints):
            raise TraceEnded(trial.saved_message)
        if self._until == position:
            raise TraceEnded(describe_reached(position))

    def wait(self) -> None:
        """Block until all checkpoints are on the disk."""
        self._writer.wait()

    def resume_ledger(self, found: Checkpoint) -> None:
        """Continue the ledger at the line where the checkpoint was written."""
        self.ledger.resume_at(found.lines, found.last)

    def restore(
        self,
        phase: Phase,
        found: Checkpoint,
        *,
        without: frozenset[str] = frozenset(),
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Restore ledger, output files, objects and observer from a checkpoint. Raises InputError."""
        state = found.state
        self.resume_ledger(found)
        with as_input_error(self._start):
            for name, snapshot in self._files.items():
                snapshot.restore(state[name])
        self.settings.exports.begin_phase()  # what was restored is there, too
        restorer = self.restore_objects(state["objects"], phase.roots | dict(more), without=without)
        if self._observer is not None:
            # The observer needs the live optimizers, so that later steps belong to the right models.
            with as_input_error(self._start):
                for index in state["stepped"]:
                    self._observer.stepped(restorer.optimizers[index])
                self._observer.restore_observations(state["told"])

    def restore_objects(
        self,
        encoded: Mapping[str, Any],
        roots: Mapping[str, Any],
        *,
        without: frozenset[str] = frozenset(),
        read: Callable[[Digest], bytes] | None = None,
    ) -> StateRestorer:
        """Restore what was captured from these roots and the global generators, by `read` if not from a checkpoint."""
        wanted = [item for item in encoded["roots"] if item[0] not in without]
        initial = None if self.phase is None else self.phase.objects
        restorer = StateRestorer(Content(read or self._store.content), self._folders, initial)
        held = self.libraries.holders(frozenset(name for name, _ in wanted))
        live = dict(roots) | held
        with as_input_error(self._start):
            # A checkpoint is a file that anyone could have edited: it may only touch the script's own globals.
            self.walker.check_globals(encoded["globals"])
            restorer.restore_roots({"roots": wanted, "globals": encoded["globals"]}, live)
            self.libraries.restore(held, without=without)
        return restorer

    def _checkpoint_of(self, phase: Phase) -> Checkpoint | None:
        """Where the run resumes, if that is in this phase; for an earlier phase, its last checkpoint."""
        if self._start is None or phase.number > self._start.phase:
            return None
        needed = self._store.needed(self._start)
        position = next((position for position in needed if position.phase == phase.number), None)
        if position is None:
            return None
        found = self._store.read(position)
        if found.recipe != self._recipe:
            raise InputError(f"the checkpoint {position.name} belongs to another recipe; train again")
        return found

    def _checkpoint_at(
        self, position: Position, phase: Phase, part: StatePart, roots: Mapping[str, Any], known: DigestedValues
    ) -> tuple[Checkpoint, Mapping[str, Any]]:
        captured = self.capture(roots, known)
        phase.check(captured)
        self.settings.check(phase.settings, captured)
        steps = () if self._observer is None else self._observer.first_steps()
        check_steps(steps[phase.stepped :], captured.optimizers)
        files = {name: snapshot.capture() for name, snapshot in self._files.items()}
        return checkpoint_of(position, captured, part, files, self._observer, recipe=self._recipe, ledger=self.ledger)
