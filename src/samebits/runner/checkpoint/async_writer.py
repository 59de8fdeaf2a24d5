"""Writes checkpoints on a background thread, so that training does not wait for the disk."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from samebits.core.checkpoint_store import KEPT, Checkpoint, CheckpointStore
from samebits.core.retention import RetentionPolicy
from samebits.runner.process.console import log

# Each waiting checkpoint holds a copy of all variables in memory.
_MAX_WAITING = 2
_SHARE = 0.015
"""The part of the time that taking and writing checkpoints may have, where they can be left out.

Where the training uses all cores, it loses about twice as much to large ones: they share memory and disk with it.
While a small one waits for the disk, the training loses nothing: only the thread's processor time counts.
"""
_MOST_SECONDS = 300.0
"""Between two of them: a disk may have stalled, or the process been stopped, while one was written."""
_LARGE_BYTES = 64 << 20
_FIRST = 8
"""So many checkpoints that are not large are always written: a short training loses less by them than by a kill."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Waiting:
    """A checkpoint to write, and the monotonic times at which it was begun and added."""

    checkpoint: Checkpoint
    contents: Mapping[str, Any]
    begun: float
    added: float

    @property
    def is_large(self) -> bool:
        # Contents that are stored already may be missing.
        sizes = (memoryview(content).nbytes for content in self.contents.values() if content is not None)
        return sum(sizes) >= _LARGE_BYTES


class AsyncWriter:
    """Writes checkpoints in the order in which they were added.

    A waiting checkpoint is dropped if a newer one of its phase replaces it and the policy would not keep it anyway.
    `before_write` is called on the writer's thread before each checkpoint. If the disk refuses a checkpoint, training
    continues: the error is logged, and no more checkpoints are written.
    """

    def __init__(
        self, store: CheckpointStore, retention: RetentionPolicy, before_write: Callable[[], None], least: int = KEPT
    ) -> None:
        self._store = store
        self._retention = retention
        self._least = least
        self._before_write = before_write
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._busy: _Waiting | None = None
        self._thread: threading.Thread | None = None
        self.failed = False
        self._capturing: set[str] = set()
        self._early_until = -math.inf
        self._added = 0

    @property
    def is_early(self) -> bool:
        """Whether checkpoints would take more than their share of the time, if another one were written now."""
        with self._changed:
            return time.monotonic() < self._early_until

    def add(self, checkpoint: Checkpoint, contents: Mapping[str, Any], begun: float) -> None:
        """Queue a checkpoint; blocks while the queue is full. `begun` is the monotonic time before it was captured."""
        item = _Waiting(checkpoint=checkpoint, contents=contents, begun=begun, added=time.monotonic())
        with self._changed:
            if self.failed:
                return
            # What it takes is known once it is on the disk.
            self._added += 1
            self._early_until = math.inf if item.is_large or self._added >= _FIRST else -math.inf
            # Started late: runs without checkpoints need no thread.
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="samebits-checkpoints", daemon=True)
                self._thread.start()
            # A slow disk skips checkpoints that would be deleted anyway.
            self._waiting = [other for other in self._waiting if not self._is_replaced(other.checkpoint, checkpoint)]
            self._changed.wait_for(lambda: len(self._waiting) < _MAX_WAITING or self.failed)
            self._waiting.append(item)
            self._capturing.clear()
            self._changed.notify_all()

    def fail(self, error: Exception) -> None:
        """Log the error and write no more checkpoints."""
        if not self.failed:
            log(f"no more checkpoints are written: {error}")
        with self._changed:
            self.failed = True
            self._waiting.clear()
            self._busy = None
            self._changed.notify_all()

    def announce(self, digest: str) -> None:
        """Keep the object of an output file of the checkpoint that is being captured."""
        with self._changed:
            self._capturing.add(digest)

    @contextmanager
    def _in_use(self) -> Iterator[frozenset[str]]:
        """Digests that pruning must keep, as a waiting checkpoint or the one being captured refers to them.

        Nothing is announced within the context, so that an object cannot be removed after it was found to exist.
        """
        with self._changed:
            yield frozenset(self._capturing).union(*(item.checkpoint.objects for item in self._waiting))

    def wait(self) -> None:
        """Block until all checkpoints are on the disk."""
        with self._changed:
            self._changed.wait_for(lambda: self.failed or (not self._waiting and self._busy is None))

    def _is_replaced(self, waiting: Checkpoint, newer: Checkpoint) -> bool:
        position = waiting.position
        return position.phase == newer.position.phase and not self._retention.retains(position.epoch, position.step)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._busy = None
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                self._busy = item = self._waiting.pop(0)
                self._changed.notify_all()
            clock = time.monotonic if item.is_large else time.thread_time
            started = clock()
            try:
                self._before_write()
                self._store.write(item.checkpoint, item.contents)
                self._store.prune(self._retention, self._in_use, self._least)
            except Exception as error:  # noqa: BLE001  a dead writer would block the training forever
                self.fail(error)
                return
            self._written(item, clock() - started)

    def _written(self, item: _Waiting, seconds: float) -> None:
        """Note when the next checkpoint is due, after one took so many seconds of the training to write."""
        with self._changed:
            if self._early_until == math.inf and not self._waiting:
                wait = (item.added - item.begun + seconds) / _SHARE
                self._early_until = item.begun + min(wait, _MOST_SECONDS)
