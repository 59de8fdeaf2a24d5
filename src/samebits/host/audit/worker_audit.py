"""What the workers beside the chief kept of a run: a resumed run begins where all workers have a usable checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from samebits.core.checkpoint_store import Position
from samebits.core.errors import RecordError
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import KeptWorker
from samebits.host.audit.checkpoint_audit import CheckpointAudit
from samebits.host.console import log


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerAudit:
    """The checkpoints of one worker; None where its ledger cannot be relied on."""

    index: int
    found: CheckpointAudit | None

    def problem(self, position: Position, needed: Sequence[Position]) -> str | None:
        """Why this worker cannot resume from a checkpoint of the chief, which needs others."""
        if self.found is None or position not in self.found.good:
            return f"worker {self.index} has no usable checkpoint in {position}"
        if self.found.run.checkpoints.needed(position) != list(needed):
            return f"worker {self.index} has other checkpoints before {position}"
        return self.found.wrong_with_needed(position)

    def kept(self, positions: Sequence[Position]) -> KeptWorker | None:
        """What a resumed run gets of this worker, of the checkpoints that the chief gets; None for nothing."""
        if self.found is None:
            return None
        return KeptWorker(
            index=self.index,
            store=self.found.run.checkpoints,
            size=self.found.ledger.size,
            positions=tuple(item for item in positions if item in self.found.good),
        )


def audit_workers(run: RunDir, record: Record) -> tuple[WorkerAudit, ...]:
    """The checkpoints of all workers beside the chief."""
    # The record names the end of the chief's ledger, and its result.
    own = replace(record, ledger=None, result=None)
    return tuple(_audit(run, own, index) for index in range(1, record.recipe.world_size))


def _audit(run: RunDir, record: Record, index: int) -> WorkerAudit:
    try:
        return WorkerAudit(index=index, found=CheckpointAudit.of(run.of_worker(index), record))
    except RecordError as error:
        log(f"nothing of worker {index} can be used: {error}")
        return WorkerAudit(index=index, found=None)


def restrict(chief: CheckpointAudit, workers: Sequence[WorkerAudit]) -> None:
    """Leave the chief's checkpoints alone that a worker cannot resume from."""
    for position in list(chief.good) if workers else ():
        needed = chief.run.checkpoints.needed(position)
        reason = next((found for worker in workers if (found := worker.problem(position, needed)) is not None), None)
        if reason is not None:
            chief.bad[position] = reason
            del chief.good[position]
