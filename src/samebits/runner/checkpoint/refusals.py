"""Why a run cannot be resumed exactly: reported once, kept beside its checkpoints and in the record."""

from contextlib import suppress

from samebits.core.checkpoint_store import CheckpointStore
from samebits.core.errors import StorageError
from samebits.core.record import Resumability
from samebits.runner.process.console import log


class Refusals:
    """The reasons, of a run that `writes` checkpoints. `began` says whether a phase has begun."""

    def __init__(self, store: CheckpointStore, *, writes: bool) -> None:
        self._store = store
        self._writes = writes
        self.began = False
        self.reasons: list[str] = []
        self._unwrapped: list[str] = []

    def resumability(self) -> Resumability | None:
        """As the record stores it; None if no phase began, or the run writes no checkpoints."""
        reasons = self.reasons if self.began else self._unwrapped
        if not self._writes or not (self.began or reasons):
            return None
        return Resumability(resumable=not reasons, reasons=tuple(reasons))

    def begin(self) -> None:
        """Note that a phase begins."""
        self.began = True
        if self._unwrapped and not self.reasons:
            # What was trained before the first phase is trained again by a resumed run.
            self._unwrapped = []
            self._store.accept()

    def add(self, reason: str) -> None:
        """Report a reason."""
        if reason in self.reasons or not self._writes:
            return
        self.reasons.append(reason)
        log(f"this run cannot be resumed exactly: {reason}")
        self._keep(self.reasons)

    def step_outside(self, optimizer: str) -> None:
        """Note that an optimizer makes steps in no phase: without any phase, the run has no checkpoint."""
        if self.began or self._unwrapped or self.reasons or not self._writes:
            return
        reason = f"the optimizer {optimizer} makes steps outside of fit; wrap the loop in samebits.checkpoint"
        log(f"there is no checkpoint yet: {reason}")
        self._unwrapped.append(reason)
        self._keep(self._unwrapped)

    def turn_off(self, reason: str) -> None:
        """Note why no checkpoint is written at all; the record says it."""
        self.began = True
        self.reasons.append(reason)
        if self._writes:
            self._keep(self.reasons)

    def _keep(self, reasons: list[str]) -> None:
        # The file serves a run that is killed; otherwise the record has the reasons.
        with suppress(StorageError):
            self._store.refuse(reasons)
