"""One prepared run on its way to a sealed record: settings, script, observation, checks, seal."""

import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import samebits
from samebits.core.determinism_profile import Profile
from samebits.core.environment import Environment
from samebits.core.errors import (
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_SCRIPT_FAILED,
    EXIT_TERMINATED,
    InputError,
    SamebitsError,
    SettingError,
    StorageError,
    Terminated,
    shorten,
)
from samebits.core.file_tree import Tree, differing_paths, hash_tree, read_manifest
from samebits.core.jsonio import storage_error
from samebits.core.ledger import Ledger
from samebits.core.record import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    LedgerEnd,
    Outcome,
    Record,
    finalize,
    read_record,
    write_record,
)
from samebits.core.result import Result
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import hash_kept_code
from samebits.core.timings import Timings
from samebits.core.trace_level import TraceEnded
from samebits.core.trial import SEEDS
from samebits.loop import follow
from samebits.runner.checkpoint.fit_checkpoints import FitCheckpoints
from samebits.runner.checkpoint.loop_checkpoints import LoopCheckpoints
from samebits.runner.checkpoint.manager import CheckpointManager
from samebits.runner.checkpoint.unsupported_ops import UnsupportedOpWatcher
from samebits.runner.compat.features import ENTROPY_MONITOR, EPOCH_SHUFFLE, EXACT_RESUME, STEP_TRACE
from samebits.runner.compat.patches import Patches
from samebits.runner.compat.requirements import required_features
from samebits.runner.compat.self_test import PrivateNames, look_at_names
from samebits.runner.determinism import settings as determinism
from samebits.runner.determinism.entropy_monitor import EntropyMonitor
from samebits.runner.determinism.portability import PortabilityMonitor
from samebits.runner.determinism.shuffle import FitShuffle
from samebits.runner.digests.output_files import describe_outputs
from samebits.runner.observe.environment import observe_environment
from samebits.runner.observe.observer import Observer
from samebits.runner.process.console import log, plain_progress
from samebits.runner.process.output_capture import kept_output, quiet_import
from samebits.runner.process.signals import Signals
from samebits.runner.script_runner import run_script
from samebits.runner.trial.trial_runner import TrialRunner


@dataclass(slots=True)
class Session:
    """One prepared run on its way to a sealed record."""

    folder: RunDir
    record: Record
    data: Path | None
    signals: Signals = field(default_factory=Signals)
    patches: Patches = field(default_factory=Patches)
    timings: Timings = field(default_factory=Timings)
    status: int = EXIT_OK

    def run(self) -> int:
        """Train and seal. Returns 0, 1 for a script that failed, 2 for an error of ours, 130 or 143 for a signal."""
        with self.patches:
            return self._run()

    def _run(self) -> int:
        started = time.monotonic()
        self.signals.listen()
        with Ledger(self.folder.ledger, self.record.recipe.digest) as ledger:
            try:
                self.record = self._trained(ledger)
                self.signals.ignore()
            except (KeyboardInterrupt, Terminated):  # between the two
                self.signals.ignore()
                self.record = self._ended(self._interruption())
            peak_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
            self._note(Environment(peak_memory=peak_memory, settings=()))
            self.folder.reserve.unlink(missing_ok=True)
            ledger.sync()  # what a sealed record names must not be lost with the power
            number, last = ledger.file_end()
            end = LedgerEnd(lines=number, last=str(last))
            timings = replace(self.timings, total=round(time.monotonic() - started, 3))
            finalize(self.folder.record, replace(self.record, ledger=end, timings=timings))
        return self.status

    def _trained(self, ledger: Ledger) -> Record:
        """The record with outcome and, where the script finished, the result."""
        try:
            return self._attempt(ledger)
        except (KeyboardInterrupt, Terminated):
            return self._ended(self._interruption())
        except TraceEnded as ended:
            return self._ended(Outcome(state=INTERRUPTED, message=str(ended), exit_status=EXIT_OK))
        except SamebitsError as error:
            self.status = error.exit_status
            log(str(error))
            return self._ended(Outcome(state=FAILED, message=str(error)))
        except Exception as error:  # noqa: BLE001  a defect of ours must not cost the record
            trace = traceback.format_exc()
            if self.signals.received is not None:  # a library may turn an interrupt into an error of its own
                return self._ended(replace(self._interruption(), traceback=trace))
            self.status = EXIT_ERROR
            print(f"{trace}samebits: a defect of samebits itself; please report it", file=sys.stderr)
            return self._ended(Outcome(state=FAILED, message=f"samebits failed: {error!r}", traceback=trace))

    def _attempt(self, ledger: Ledger) -> Record:
        recipe = self.record.recipe
        profile = Profile(name=recipe.profile, threads=recipe.threads, device=recipe.device.kind)
        trying = TrialRunner(self.record.trial)
        profile = trying.before_import(profile, self.patches)
        machine = PortabilityMonitor(profile, self._note, fingerprinted=self.record.trial is None)
        folders = {"run": self.folder.path} | ({} if self.data is None else {"data": self.data})
        keeper = CheckpointManager(self.record, self.folder, ledger, folders)
        fits = FitCheckpoints(keeper, preempted=self.signals.waits, end=self.signals.again)
        out_of_reach = UnsupportedOpWatcher(keeper)
        rounds = LoopCheckpoints(keeper, ledger, out_of_reach)
        shuffling = FitShuffle(recipe.seed, recipe.shuffle)
        observer = Observer(
            ledger,
            self.folder.models,
            trace=self.record.trace,
            tensors=self.folder.tensors,
            shuffling=shuffling,
            before_training=lambda: self._before_training(machine),
            fits=fits.fit,
            stepping=rounds.stepping,
            after_epoch=lambda: None if fits.ends_epochs else self.signals.again(),
            behind_steps=trying.count,
        )
        self._check_code("code changed before it ran")
        self._keep_image_recipe()
        guard = determinism.prepare_environment(profile, self.patches)
        names = self._set_up(profile, observer, shuffling)
        self._keep_checkpoints(names, keeper, fits, rounds, observer, out_of_reach)
        machine.watch(self.patches, guard)
        trying.before_script(self.patches)
        sentinel = EntropyMonitor(self.folder.code, stop=guard.stop if self.record.strict else None)
        watched = names.allow(ENTROPY_MONITOR)
        if watched:
            sentinel.install(self.patches)
        if names.off:
            self._note(Environment(features_off=dict(names.off)))
        with kept_output(self.folder.log), self._timed("script"):
            os.environ["SAMEBITS_OUTPUT"] = str(self.folder.outputs)
            if self.data is not None:
                os.environ["SAMEBITS_DATA"] = str(self.data)
            try:
                script = self.folder.code / recipe.code.entry
                outcome = run_script(script, recipe.code.arguments, self.signals, observer.check)
            except SettingError:
                guard.check()  # the words that were raised; Keras wraps them in its own
                raise
            finally:
                self.record = replace(self.record, resumable=keeper.resumable)
                entropy = tuple(sentinel.found()) if watched else None
                ops = trying.nondeterministic_ops()
                self._note(Environment(entropy=entropy, nondeterministic_ops=ops))
                self.timings = trying.add_timings(self.timings)
        guard.check()
        sentinel.check()
        observer.check()
        self.timings = replace(self.timings, observe=round(observer.seconds, 3))
        if self.signals.received is not None:  # the script may have caught it, and ended early all the same
            return self._ended(self._interruption())
        if outcome.state != FINISHED:
            self.status = EXIT_SCRIPT_FAILED
            return self._ended(outcome)
        result = self._result(profile, observer)
        machine.conclude()
        return replace(self._ended(outcome), result=result)

    def _before_training(self, machine: PortabilityMonitor) -> None:
        """What was observed so far is written down: a run that is killed has no other chance, and may be resumed."""
        machine.check()
        with suppress(StorageError):  # a full disk is told by what must be written
            if not read_record(self.folder.record).finalized:  # by a launcher that gave up waiting
                write_record(self.folder.record, self.record)

    def _note(self, observed: Environment) -> None:
        """Add to what was observed of the environment."""
        self.record = replace(self.record, environment=self.record.environment.with_observed(observed))

    def _keep_image_recipe(self) -> None:
        """Copy what the image was built from; our own source lies in it, as <recipe>/source/samebits."""
        recipe, part = Path(samebits.__file__).parents[2], self.folder.path / ".image"
        try:
            shutil.copytree(recipe, part, ignore=shutil.ignore_patterns("__pycache__"))
            part.rename(self.folder.image)
        except OSError as error:
            raise storage_error(error, self.folder.image) from error

    def _set_up(self, profile: Profile, observer: Observer, shuffling: FitShuffle) -> PrivateNames:
        """Settings, environment and seeds, in the order that leaves nothing drawn before the script."""
        with self._timed("imports"), quiet_import(self.folder.log):
            import keras  # noqa: F401
            import tensorflow as tf
        if caution := self.record.trace.caution(profile.device):
            log(caution)
        with self._timed("setup"):
            _check_device(self.record.recipe.device.kind, len(tf.config.list_physical_devices("GPU")))
            names = self._check_names(profile, observer)
            if names.allow(EPOCH_SHUFFLE):
                shuffling.install(self.patches)
            observer.install(self.patches)
            observed = observe_environment(on_gpu=profile.device == "gpu")
            determinism.seed_everything(self.record.recipe.seed, profile, self.patches)
            settings = [*determinism.read_back_settings(profile), *determinism.read_back_keras()]
            if profile.has(SEEDS):
                settings += determinism.read_back_seeds(self.record.recipe.seed)
            self._note(Environment(system=observed, settings=tuple(settings)))
        return names

    def _check_names(self, profile: Profile, observer: Observer) -> PrivateNames:
        """Raise SettingError where these versions of the libraries are not known to do what this run needs."""
        names = look_at_names()
        names.require(*required_features(self.record, profile))
        if self.record.trace.steps and not names.allow(STEP_TRACE):
            observer.tracer.turn_off(names.off[STEP_TRACE.name])
        return names

    def _keep_checkpoints(
        self,
        names: PrivateNames,
        keeper: CheckpointManager,
        fits: FitCheckpoints,
        rounds: LoopCheckpoints,
        observer: Observer,
        out_of_reach: UnsupportedOpWatcher,
    ) -> None:
        """Have checkpoints written, and the run go on from where it resumes another."""
        follow(rounds)
        self.patches.on_undo(follow, None)
        if keeper.active and not names.allow(EXACT_RESUME):
            keeper.turn_off(f"{EXACT_RESUME.name} is off: {names.off[EXACT_RESUME.name]}")
        if keeper.active:
            keeper.watch(observer)
            observer.keeps_digested = keeper.writes
            fits.install(self.patches)
            rounds.install(self.patches)
            out_of_reach.install(self.patches)
            self.signals.wait_where(lambda: fits.can_wait)

    def _result(self, profile: Profile, observer: Observer) -> Result:
        """Digests of all that came out; raises where the inputs or the settings did not stay what they were."""
        determinism.read_back_settings(profile)
        with self._timed("digest_result"):
            outputs = describe_outputs(self.folder.outputs, self.record.recipe.ignore_outputs)
            result = replace(observer.finish(), outputs=outputs)
        if not result.models:
            log("no Keras model was trained: the result covers the output files only")
        with self._timed("check_inputs"):
            self._check_code("the script changed its own code; write to $SAMEBITS_OUTPUT instead")
            self._check_data()
        return result

    def _check_code(self, meaning: str) -> None:
        """Raise InputError where the code is not what the recipe says."""
        found = hash_kept_code(self.folder)
        if found.digest != self.record.recipe.code.tree:
            raise _changed(meaning, read_manifest(self.folder.code_manifest), found)

    def _check_data(self) -> None:
        """Raise InputError where the data is not what was hashed before the run."""
        if self.data is None or self.record.recipe.data is None:
            return
        found = hash_tree(self.data, "data", progress=plain_progress("checking the data"))
        if found.digest != self.record.recipe.data:
            raise _changed("the data changed during the run", read_manifest(self.folder.data_manifest), found)

    def _interruption(self) -> Outcome:
        by_hand = self.signals.received == signal.SIGINT
        self.status = EXIT_INTERRUPTED if by_hand else EXIT_TERMINATED
        return Outcome(state=INTERRUPTED, message="Ctrl-C" if by_hand else "SIGTERM, or the launcher ended")

    def _ended(self, outcome: Outcome) -> Record:
        return replace(self.record, outcome=outcome)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to the timings, also where it fails."""
        started = time.monotonic()
        try:
            yield
        finally:
            spent: dict[str, Any] = {name: round(time.monotonic() - started, 3)}
            self.timings = replace(self.timings, **spent)


def _check_device(kind: str, gpus: int) -> None:
    """Raise SettingError where TensorFlow would not train on what the recipe says."""
    if kind == "gpu" and gpus == 0:
        raise SettingError("the run asks for a GPU and TensorFlow sees none; run without --gpus, or mend the driver")
    if kind == "cpu" and gpus > 0:
        raise SettingError(f"the recipe is for a CPU and TensorFlow sees {gpus} GPUs; ask for them with --gpus")


def _changed(meaning: str, before: Tree, after: Tree) -> InputError:
    paths = differing_paths(before, after)
    return InputError(f"{meaning}: {shorten(paths, 3)}; the result does not belong to the recipe, run again")
