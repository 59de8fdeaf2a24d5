"""The session of one worker: the chief's is the run's, the others' leave nothing."""

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace

from samebits.core.ledger import Ledger
from samebits.core.record import FINISHED, Outcome, Record
from samebits.runner.compat.self_test import PrivateNames
from samebits.runner.components import Components
from samebits.runner.determinism.portability import PortabilityMonitor
from samebits.runner.determinism.settings_guard import SettingsGuard
from samebits.runner.digests.tensors import DescribedGroups, VariableGroups
from samebits.runner.inputs import InputMarks
from samebits.runner.script_monitors import ScriptMonitors
from samebits.runner.session import Session
from samebits.runner.workers.cluster import join_cluster, shared_tensors
from samebits.runner.workers.whole_script import distributes_itself, in_one_scope
from samebits.runner.workers.worker import Worker


@dataclass(slots=True, kw_only=True)
class WorkerSession(Session):
    """Trains as one of several workers."""

    worker: Worker

    def set_up(self, parts: Components) -> PrivateNames:
        """As for one worker; then join the others."""
        names = super(WorkerSession, self).set_up(parts)
        join_cluster(self.worker, self.patches)
        # No recipe holds ports, so the variable is none of the recipe's.
        os.environ["TF_CONFIG"] = self.worker.cluster
        parts.checkpointing.manager.know_addresses(self.worker.addresses)
        parts.observer.compare = parts.checkpointing.loops.compare = self._compare
        return names

    def _compare(self, line: int, place: str, groups: VariableGroups, described: DescribedGroups) -> None:
        self.worker.report(line, place, shared_tensors(groups, described))

    def before_training(self, portability: PortabilityMonitor) -> None:
        """As for one worker; then let the others' machines be compared with this one."""
        super(WorkerSession, self).before_training(portability)
        if (arithmetic := self.record.environment.arithmetic) is not None:
            self.worker.report_machine(arithmetic.operations)

    def train_script(self, parts: Components, guard: SettingsGuard, monitors: ScriptMonitors) -> Outcome:
        """As for one worker; where the script makes no strategy, in the scope of one."""
        with ExitStack() as stack:
            if not distributes_itself(self.folder.code):
                stack.enter_context(in_one_scope(self.patches))
            return super(WorkerSession, self).train_script(parts, guard, monitors)

    def trained(self, ledger: Ledger) -> Record:
        """The record, with the outcome on which the workers' verdict decides."""
        record = super(WorkerSession, self).trained(ledger)
        # From here on a signal is for the process that started the workers: its verdict holds it.
        self.signals.ignore()
        verdict = self.worker.conclude(record.outcome)
        if verdict.problem is None:
            return record
        self.status = verdict.status
        outcome = Outcome(state=verdict.state, message=verdict.problem, traceback=record.outcome.traceback)
        return replace(record, outcome=outcome, result=None, coverage=None)

    def conclude(self, parts: Components, outcome: Outcome, marks: InputMarks) -> Record:
        """The chief's record; of another worker only how it ended."""
        if self.worker.is_chief or outcome.state != FINISHED or self.signals.received is not None:
            return super(WorkerSession, self).conclude(parts, outcome, marks)
        # The chief checks inputs and outputs; what all workers share is compared.
        parts.portability.read_back()
        parts.observer.finish()
        return self._ended(outcome)

    def finalize(self, record: Record) -> None:
        """Finalize the chief's record; nobody reads another worker's."""
        if self.worker.is_chief:
            super(WorkerSession, self).finalize(record)
