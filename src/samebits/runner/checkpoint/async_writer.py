"""Writes checkpoints behind the training, on a thread of its own."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from samebits.core.checkpoint_store import Checkpoint, CheckpointStore, RetentionPolicy
from samebits.runner.process.console import log

_MAX_WAITING = 2
"""Checkpoints that may wait to be written, each of them with the values of all variables."""


class AsyncWriter:
    """Takes checkpoints in their order; where only the last of a stage stays, a newer one takes a waiting one's place.

    `before` each it is called, on that thread. A disk that takes no checkpoint does not end a training: it is said, and
    that was the last one.
    """

    def __init__(self, store: CheckpointStore, keeping: RetentionPolicy, before: Callable[[], None]) -> None:
        self._store = store
        self._keeping = keeping
        self._before = before
        self._changed = threading.Condition()
        self._waiting: list[tuple[Checkpoint, Mapping[str, Any]]] = []
        self._busy: Checkpoint | None = None
        self._thread: threading.Thread | None = None
        self.failed = False
        self.taking: set[str] = set()
        """The output files of the checkpoint that is being taken, by digest."""

    def add(self, checkpoint: Checkpoint, contents: Mapping[str, Any]) -> None:
        """Have one written; waits while too many do."""
        with self._changed:
            if self.failed:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="samebits-checkpoints", daemon=True)
                self._thread.start()
            self._waiting = [item for item in self._waiting if not self._replaced(item[0], checkpoint)]
            self._changed.wait_for(lambda: len(self._waiting) < _MAX_WAITING or self.failed)
            self._waiting.append((checkpoint, contents))
            self.taking.clear()
            self._changed.notify_all()

    def fail(self, error: Exception) -> None:
        """No more checkpoints are written."""
        if not self.failed:
            log(f"no more checkpoints are written: {error}")
        with self._changed:
            self.failed = True
            self._waiting.clear()
            self._busy = None
            self._changed.notify_all()

    def _in_use(self) -> frozenset[str]:
        """What checkpoints name that are still to be written, or are being taken."""
        with self._changed:
            return frozenset(self.taking).union(*(item.objects for item, _ in self._waiting))

    def wait(self) -> None:
        """Until all are on the disk."""
        with self._changed:
            self._changed.wait_for(lambda: self.failed or (not self._waiting and self._busy is None))

    def _replaced(self, waiting: Checkpoint, by: Checkpoint) -> bool:
        return waiting.position.phase == by.position.phase and not self._keeping.retains(waiting.position)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._busy = None
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                self._busy, contents = self._waiting.pop(0)
                self._changed.notify_all()
            try:
                self._before()
                self._store.write(self._busy, contents)
                self._store.prune(self._keeping, self._in_use)
            except Exception as error:  # noqa: BLE001  a defect of ours must not keep a training waiting for ever
                self.fail(error)
                return
