"""One run, from a prepared folder to a finalized record: settings, script, observation, checks."""

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from samebits.core.determinism_profile import Profile
from samebits.core.environment import Environment
from samebits.core.errors import (
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_SCRIPT_FAILED,
    EXIT_TERMINATED,
    SamebitsError,
    SettingError,
    StorageError,
    Terminated,
)
from samebits.core.ledger import Ledger
from samebits.core.liveness import Host, RunProcess
from samebits.core.record import FAILED, FINISHED, INTERRUPTED, LedgerEnd, Outcome, Record
from samebits.core.result import Measured, Result
from samebits.core.run_dir import RunDir
from samebits.core.timings import Timings
from samebits.core.trace_level import TraceEnded
from samebits.runner import software
from samebits.runner.compat.features import EPOCH_SHUFFLE, EXPORT_ORDER, STEP_TRACE
from samebits.runner.compat.patches import Patches
from samebits.runner.compat.requirements import required_features
from samebits.runner.compat.self_test import PrivateNames, read_private_names
from samebits.runner.components import Components
from samebits.runner.determinism import settings as determinism
from samebits.runner.determinism.export_order import install_export_order
from samebits.runner.determinism.portability import PortabilityMonitor
from samebits.runner.determinism.settings_guard import SettingsGuard
from samebits.runner.digests.output_files import describe_outputs
from samebits.runner.inputs import InputMarks, check_code_unchanged, check_device, check_unchanged, keep_image_recipe
from samebits.runner.observe.environment import observe_environment
from samebits.runner.process.console import log
from samebits.runner.process.library_import import quiet_import
from samebits.runner.process.output_capture import kept_output
from samebits.runner.process.signals import Signals
from samebits.runner.script_monitors import ScriptMonitors
from samebits.runner.script_runner import end_fork, run_script
from samebits.runner.trial.trial_runner import TrialRunner


@dataclass(slots=True)
class Session:
    """Trains in a prepared run folder and finalizes its record."""

    folder: RunDir
    record: Record
    data: Path | None
    redacted: Mapping[str, str] = field(default_factory=dict)
    signals: Signals = field(default_factory=Signals)
    patches: Patches = field(default_factory=Patches)
    timings: Timings = field(default_factory=Timings)
    status: int = EXIT_OK
    process: int = field(default_factory=os.getpid)

    def run(self) -> int:
        """Train, then finalize the record.

        Returns 0, 1 where the script failed, 2 for an error of samebits, 130 or 143 for a signal.
        """
        with self.patches:
            return self._run()

    def _run(self) -> int:
        started = time.monotonic()
        self.signals.listen()
        self._name_process()
        with Ledger(self.folder.ledger, self.record.recipe.digest) as ledger:
            try:
                self.record = self.trained(ledger)
                self.signals.ignore()
            except (KeyboardInterrupt, Terminated):  # between those two statements
                self.signals.ignore()
                self.record = self._ended(self._interruption())
            peak_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
            self._note(Environment(peak_memory=peak_memory, settings=()))
            # A power cut must not lose ledger lines that a finalized record names.
            ledger.sync()
            number, last = ledger.file_end()
            end = LedgerEnd(lines=number, last=str(last))
            timings = replace(self.timings, total=round(time.monotonic() - started, 3))
            self.finalize(replace(self.record, ledger=end, timings=timings, measured=Measured()))
        return self.status

    def _name_process(self) -> None:
        """Record this process as the one that trains, so that others can tell whether it lives."""
        host, process = self.record.host or Host.this(), RunProcess.this()
        if host is not None and process is not None:
            self.record = replace(self.record, host=replace(host, training=process))
            with suppress(StorageError):  # the final write reports a full disk
                self.folder.update(self.record)

    def finalize(self, record: Record) -> None:
        """Write the final record; beside the run's, and say so, where another process has finalized that."""
        digests = {} if record.result is None else record.result.file_digests()
        written = self.folder.finalize_or_beside(record, digests)
        if written != self.folder.record:
            log(f"another process declared this run ended while it was running; how it ended is in {written}")
            self.status = self.status or EXIT_ERROR

    def trained(self, ledger: Ledger) -> Record:
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
        except Exception as error:  # noqa: BLE001  a defect of samebits must not lose the record
            trace = traceback.format_exc()
            # A library may turn an interrupt into an error of its own.
            if self.signals.received is not None:
                return self._ended(replace(self._interruption(), traceback=trace))
            self.status = EXIT_ERROR
            print(f"{trace}samebits: a defect of samebits itself; please report it", file=sys.stderr)
            return self._ended(Outcome(state=FAILED, message=f"samebits failed: {error!r}", traceback=trace))

    def _attempt(self, ledger: Ledger) -> Record:
        """Run the script once, in steps. The comments say why their order matters."""
        # 1. A trial perturbs the process first, so that all later steps run under the perturbation.
        trial = TrialRunner(self.record.trial)
        profile = trial.before_import(self.record.recipe.determinism, self.patches)
        # 2. Building the components patches nothing yet.
        parts = self._build(ledger, profile, trial)
        # 3. Software, code and image recipe are checked and copied before the script could change them.
        self._check_software()
        check_code_unchanged(self.folder, self.record.recipe, "code changed before it ran")
        marks = InputMarks(self.folder, self.data)
        parts.working_folder.make()
        parts.pinned.place()
        keep_image_recipe(self.folder)
        # 4. TensorFlow reads environment variables at import, so they are set and guarded before it.
        guard = determinism.prepare_environment(profile, self.patches, self.folder.work)
        self._import_libraries(profile)
        # 5. From the seeding in this step on, nothing may draw a random number before the script does.
        names = self.set_up(parts)
        # 6. Checkpoint patches wrap the tracer's, so they see graphs as these run, taps included.
        parts.checkpointing.install(self.patches, names, parts.observer, self.signals)
        # 7. The fingerprint's process forks off with all settings in place, before the script configures devices.
        parts.portability.watch(self.patches, guard)
        # 8. What is left of the trial's perturbations, and the entropy monitor, concern the script alone.
        trial.before_script(self.patches)
        monitors = self._watch_script(names, guard, parts)
        try:
            # 9. Run the script.
            outcome = self.train_script(parts, guard, monitors)
            # 10. The script may have swallowed an error of samebits. Raise it again before any result is written.
            self._check_swallowed_errors(parts, guard, monitors)
            # 11. Digest the models and outputs, and check the inputs again.
            return self.conclude(parts, outcome, marks)
        finally:
            self._keep_what_was_made(parts)

    def _check_software(self) -> None:
        """Raise InputError where another software would run than the recipe names."""
        software.check_software(self.record.recipe.image)
        if self.record.environment.in_container:
            mounts = software.read_mounts()
            self._note(Environment(mounts=mounts))
            software.check_mounts(mounts, self.record.recipe.device.kind)

    def _build(self, ledger: Ledger, profile: Profile, trial: TrialRunner) -> Components:
        """Connect the components of this run."""
        return Components.build(
            self.record,
            self.folder,
            self.data,
            ledger,
            signals=self.signals,
            profile=profile,
            trial=trial,
            note=self._note,
            before_training=self.before_training,
        )

    def _import_libraries(self, profile: Profile) -> None:
        """Import Keras and TensorFlow; they print only into the run's log."""
        with self._timed(lambda timings, seconds: replace(timings, imports=seconds)), quiet_import(self.folder.log):
            import keras  # noqa: F401
            import tensorflow as tf  # noqa: F401
        # A virtual environment takes its C library, and what that loads, from the machine.
        if self.record.environment.in_container:
            software.check_libraries()
        if caution := self.record.trace.caution(profile.device):
            log(caution)

    def set_up(self, parts: Components) -> PrivateNames:
        """Test the private names, install the observer, then seed and read every setting back."""
        import tensorflow as tf

        with self._timed(lambda timings, seconds: replace(timings, setup=seconds)):
            check_device(self.record.recipe.device.kind, len(tf.config.list_physical_devices("GPU")))
            names = self._check_names(parts)
            if names.allow(EPOCH_SHUFFLE):
                parts.shuffle.install(self.patches)
            if names.allow(EXPORT_ORDER):
                install_export_order(self.patches)
            parts.observer.install(self.patches)
            observed = observe_environment(self.record.recipe.device)
            # Seeding comes last: nothing above may use up random numbers.
            determinism.seed_everything(self.record.recipe.seed, parts.profile, self.patches)
            self._note(
                Environment(system=observed, settings=determinism.read_back_all(self.record.recipe.seed, parts.profile))
            )
        return names

    def _check_names(self, parts: Components) -> PrivateNames:
        """Raise SettingError where these library versions lack a private name that this run needs."""
        names = read_private_names()
        names.require(*required_features(self.record, parts.profile))
        if self.record.trace.steps and not names.allow(STEP_TRACE):
            parts.observer.tracer.turn_off(names.reason(STEP_TRACE))
        return names

    def _watch_script(self, names: PrivateNames, guard: SettingsGuard, parts: Components) -> ScriptMonitors:
        """Watch from here on for what belongs to no recipe."""
        monitors = ScriptMonitors.start(
            names, self.folder, self.record, self.patches, stop=guard.stop, allowed=(self.data, parts.pinned.folder)
        )
        parts.checkpointing.know_opened(monitors.unpinned)
        # Every feature has been asked for by now.
        if names.off:
            self._note(Environment(features_off=dict(names.off)))
        return monitors

    def train_script(self, parts: Components, guard: SettingsGuard, monitors: ScriptMonitors) -> Outcome:
        """Run the user's script; what was observed is recorded however it ends."""
        code = self.record.recipe.code
        with kept_output(self.folder.log), self._timed(lambda timings, seconds: replace(timings, script=seconds)):
            os.environ.update(self.record.recipe.env)
            os.environ["SAMEBITS_OUTPUT"] = str(self.folder.outputs)
            if self.data is not None:
                os.environ["SAMEBITS_DATA"] = str(self.data)
            try:
                outcome = run_script(self.folder.work, code, self.signals, parts.observer.check, self.redacted)
                end_fork(self.process, outcome.exit_status or EXIT_OK)
                return monitors.explained(outcome, self.record.recipe, self.folder, self.redacted)
            except SettingError:
                # Keras wraps errors in its own. The guard raises the original message.
                guard.check()
                raise
            finally:
                end_fork(self.process, EXIT_ERROR)
                self._note_script(parts, monitors)

    def _note_script(self, parts: Components, monitors: ScriptMonitors) -> None:
        """Record what was observed while the script ran."""
        manager, origin = parts.checkpointing.manager, self.record.origin
        self.record = replace(self.record, resumable=manager.resumable)
        if origin.resumes is not None and origin.resumes.replays is not None:
            resumes = replace(origin.resumes, reproduced=manager.proof.complete)
            self.record = replace(self.record, origin=replace(origin, resumes=resumes))
        self._note(replace(monitors.observed(), nondeterministic_ops=parts.trial.nondeterministic_ops()))
        self.timings = parts.trial.add_timings(self.timings)

    def _check_swallowed_errors(self, parts: Components, guard: SettingsGuard, monitors: ScriptMonitors) -> None:
        """Raise again what ended the script, or should have ended it."""
        guard.check()
        monitors.check()
        parts.observer.check()

    def conclude(self, parts: Components, outcome: Outcome, marks: InputMarks) -> Record:
        """The record of a script that ended, with the result where it finished."""
        self.timings = replace(self.timings, observe=round(parts.observer.seconds, 3))
        # The script may have caught the signal's exception and ended early.
        if self.signals.received is not None:
            return self._ended(self._interruption())
        if outcome.state != FINISHED:
            self.status = EXIT_SCRIPT_FAILED
            return self._ended(outcome)
        parts.checkpointing.manager.proof.require_complete()
        result = self._result(parts)
        marks.check()
        parts.portability.conclude()
        return replace(self._ended(outcome), result=result)

    def _keep_what_was_made(self, parts: Components) -> None:
        """However the run ends, the files of the working folder stay; so do models, if the code changed meanwhile."""
        if parts.working_folder.changed:
            parts.observer.settling.keep_models()
        try:
            parts.working_folder.collect()
        except StorageError as error:
            log(f"{error}; what the script wrote beside its code is left in {self.folder.work}")

    def before_training(self, portability: PortabilityMonitor) -> None:
        """Check the machine, then write the record: a run that is killed later can be resumed from it."""
        portability.check()
        with suppress(StorageError):  # the final write reports a full disk
            # A launcher that stopped waiting may have finalized the record. That one stays.
            self.folder.update(self.record)

    def _note(self, observed: Environment) -> None:
        """Add to what was observed of the environment."""
        self.record = replace(self.record, environment=self.record.environment.with_observed(observed))

    def _result(self, parts: Components) -> Result:
        """Digest models and output files. Raises where an input or a setting changed during the run."""
        parts.portability.read_back()
        parts.pinned.check()
        with self._timed(lambda timings, seconds: replace(timings, digest_result=seconds)):
            # Models first: a script's thread may still be writing its last output file.
            result = parts.observer.finish()
            parts.working_folder.check(thorough=True)
            parts.working_folder.collect()
            outputs, ignored = describe_outputs(self.folder.outputs, self.record.recipe.ignore_outputs)
            coverage = replace(parts.observer.settling.coverage(), ignored=ignored)
            self.record = replace(self.record, coverage=coverage)
        if not result.models:
            log("no Keras model was trained: the result covers the output files only")
        for reason in coverage.unsaved:
            log(f"a model could not be saved, the result has its digests only: {reason}")
        with self._timed(lambda timings, seconds: replace(timings, check_inputs=seconds)):
            check_unchanged(self.folder, self.record.recipe, self.data)
        return replace(result, outputs=outputs)

    def _interruption(self) -> Outcome:
        by_hand = self.signals.received == signal.SIGINT
        self.status = EXIT_INTERRUPTED if by_hand else EXIT_TERMINATED
        return Outcome(state=INTERRUPTED, message="Ctrl-C" if by_hand else "SIGTERM, or the launcher ended")

    def _ended(self, outcome: Outcome) -> Record:
        return replace(self.record, outcome=outcome)

    @contextmanager
    def _timed(self, add: Callable[[Timings, float], Timings]) -> Iterator[None]:
        """Add the seconds of a block to the timings, also where it fails."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.timings = add(self.timings, round(time.monotonic() - started, 3))
