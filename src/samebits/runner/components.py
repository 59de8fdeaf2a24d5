"""The objects that act during one run, and how they are connected."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.core.determinism_profile import Profile
from samebits.core.environment import Environment
from samebits.core.ledger import Ledger
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.loop import follow
from samebits.runner import software
from samebits.runner.checkpoint.distributed_checks import watch_openings
from samebits.runner.checkpoint.files.temporary_files import private_temporary_folder
from samebits.runner.checkpoint.fit_checkpoints import FitCheckpoints
from samebits.runner.checkpoint.graphs.input_shapes import InputShapes
from samebits.runner.checkpoint.graphs.loop_traces import LoopTraces
from samebits.runner.checkpoint.graphs.trace_inputs import TraceGuard
from samebits.runner.checkpoint.graphs.unsupported_ops import UnsupportedOpWatcher
from samebits.runner.checkpoint.loop_checkpoints import LoopCheckpoints
from samebits.runner.checkpoint.manager import CheckpointManager
from samebits.runner.checkpoint.process_state.library_state import LibraryState
from samebits.runner.checkpoint.process_state.random_streams import RandomStreams
from samebits.runner.checkpoint.state.code_inspection import is_ours
from samebits.runner.compat import cpython_private
from samebits.runner.compat.features import EXACT_RESUME, EXPORT_ORDER
from samebits.runner.compat.graph_tracing import GraphTracing, TraceListener
from samebits.runner.compat.patches import Patches
from samebits.runner.compat.self_test import PrivateNames
from samebits.runner.determinism.portability import PortabilityMonitor
from samebits.runner.determinism.shuffle import FitShuffle
from samebits.runner.determinism.unpinned import UnpinnedMonitor
from samebits.runner.observe.observer import Observer
from samebits.runner.observe.output_links import OutputLinks
from samebits.runner.pinned_files import PinnedFiles
from samebits.runner.process.signals import Signals
from samebits.runner.trial.trial_runner import TrialRunner
from samebits.runner.working_folder import WorkingFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpointing:
    """Everything that writes checkpoints or restores one."""

    manager: CheckpointManager
    fits: FitCheckpoints
    loops: LoopCheckpoints
    streams: RandomStreams
    shapes: InputShapes
    tracing: GraphTracing
    listeners: tuple[TraceListener, ...]

    @classmethod
    def build(
        cls,
        record: Record,
        folder: RunDir,
        data: Path | None,
        ledger: Ledger,
        signals: Signals,
        working_folder: WorkingFolder,
        pinned: PinnedFiles,
    ) -> "Checkpointing":
        """Connect the parts. Nothing is patched before `install`."""
        folders = {"run": folder.path} | ({} if data is None else {"data": data})
        temporary = private_temporary_folder(software.is_bound)
        folders |= {} if pinned.folder is None else {"inputs": pinned.folder}
        # In a virtual environment, each run has a home of its own.
        folders |= {} if pinned.folder is None and temporary is None else {"home": Path.home()}
        streams = RandomStreams()
        libraries = LibraryState(streams)

        def is_given(path: str) -> bool:
            # Links to inputs lead to this machine's cache; a resumed run makes its own.
            return working_folder.is_code(path) or pinned.is_link(folder.work / path)

        manager = CheckpointManager(record, folder, ledger, folders, is_given, libraries, temporary)
        unsupported_ops = UnsupportedOpWatcher(manager, streams)
        tracing = GraphTracing()
        shapes = InputShapes(tracing)
        traces = LoopTraces(manager, lambda module: is_ours(module, str(folder.work)), shapes)
        guard = TraceGuard(manager, lambda: unsupported_ops.has_traced)
        return cls(
            manager=manager,
            fits=FitCheckpoints(manager, signals, guard, traces),
            loops=LoopCheckpoints(manager, ledger, unsupported_ops, traces),
            streams=streams,
            shapes=shapes,
            tracing=tracing,
            # Names are counted last before a trace, and first after it.
            listeners=(
                unsupported_ops.before_trace,
                shapes.before_trace,
                traces.before_trace,
                guard.before_trace,
                libraries.names.before_trace,
            ),
        )

    def after_epoch(self, signals: Signals) -> None:
        """Raise a signal that a library swallowed, unless `fits` does so after its own checkpoint."""
        if not self.fits.ends_epochs:
            signals.reraise()

    def know_opened(self, unpinned: UnpinnedMonitor) -> None:
        """Ask what watches the script which files it opened itself."""
        self.manager.temporary.written = unpinned.written
        self.manager.settings.descriptors.opened = unpinned.descriptors

    def install(self, patches: Patches, names: PrivateNames, observer: Observer, signals: Signals) -> None:
        """Write checkpoints from here on, and resume where the run resumes another one."""
        # `samebits.checkpoint` works in every run, also in one that writes no checkpoint.
        follow(self.loops)
        patches.on_undo(follow, None)
        exact = names.allow(EXACT_RESUME)
        if exact:
            # In every run, as it may change bits.
            self.streams.install(patches)
        if self.manager.temporary.is_private:
            patches.replace(*cpython_private.temporary_names_location(), cpython_private.TemporaryNames())
        if self.manager.active and not exact:
            self.manager.turn_off(f"{EXACT_RESUME.name} is off: {names.reason(EXACT_RESUME)}")
        if self.manager.active:
            self.manager.watch(observer)
            observer.keeps_digested = self.manager.writes
            self.fits.install(patches)
            self.loops.install(patches)
            self.shapes.install(patches)
            self.tracing.install(patches, self.listeners)
            if names.allow(EXPORT_ORDER):
                self.manager.settings.exports.install(patches)
            if self.manager.workers > 1:
                watch_openings(patches, self.manager)
            signals.wait_where(lambda: self.fits.can_wait)


@dataclass(frozen=True, kw_only=True, slots=True)
class Components:
    """The objects that act during one run."""

    profile: Profile
    trial: TrialRunner
    portability: PortabilityMonitor
    checkpointing: Checkpointing
    shuffle: FitShuffle
    observer: Observer
    working_folder: WorkingFolder
    pinned: PinnedFiles

    @classmethod
    def build(  # noqa: PLR0913  each is what a component needs
        cls,
        record: Record,
        folder: RunDir,
        data: Path | None,
        ledger: Ledger,
        *,
        signals: Signals,
        profile: Profile,
        trial: TrialRunner,
        note: Callable[[Environment], None],
        before_training: Callable[[PortabilityMonitor], None],
    ) -> "Components":
        """Connect the parts. Nothing is patched yet. `note` adds to the recorded environment."""
        resumes = record.origin.resumes
        portability = PortabilityMonitor(
            profile,
            note,
            fingerprinted=record.trial is None,
            expected=None if resumes is None else resumes.fingerprint,
        )
        pinned = PinnedFiles(folder, record.recipe)
        working_folder = WorkingFolder(folder, pinned.is_link)
        checkpointing = Checkpointing.build(record, folder, data, ledger, signals, working_folder, pinned)
        shuffle = FitShuffle(record.recipe.seed, record.recipe.shuffle)
        observer = _connect_observer(
            record,
            folder,
            ledger,
            signals=signals,
            before_training=lambda: before_training(portability),
            checkpointing=checkpointing,
            shuffle=shuffle,
            trial=trial,
            working_folder=working_folder,
        )
        return cls(
            profile=profile,
            trial=trial,
            portability=portability,
            checkpointing=checkpointing,
            shuffle=shuffle,
            observer=observer,
            working_folder=working_folder,
            pinned=pinned,
        )


def _connect_observer(  # noqa: PLR0913  each is what the observer writes to or calls
    record: Record,
    folder: RunDir,
    ledger: Ledger,
    *,
    signals: Signals,
    before_training: Callable[[], None],
    checkpointing: Checkpointing,
    shuffle: FitShuffle,
    trial: TrialRunner,
    working_folder: WorkingFolder,
) -> Observer:
    """The observer of a training, which calls the other components as the training proceeds."""
    links = OutputLinks(folder=folder.outputs, ignore=record.recipe.ignore_outputs)

    def stepping(optimizer: Any) -> None:
        links.look()
        working_folder.check_now_and_then()
        checkpointing.loops.stepping(optimizer)

    def after_epoch() -> None:
        links.look()
        checkpointing.after_epoch(signals)

    return Observer(
        ledger,
        folder.models,
        trace=record.trace,
        tensors=folder.tensors,
        shuffle=shuffle,
        before_training=before_training,
        fits=checkpointing.fits.fit,
        stepping=stepping,
        inspect=working_folder.check,
        after_epoch=after_epoch,
        after_steps=trial.count,
    )
