"""How long a cluster may give no answer, as while its controller restarts or the network fails."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from samebits.core.errors import ToolError
from samebits.host.console import log

PATIENCE_SECONDS = 300.0


@dataclass(slots=True)
class Patience:
    """Questions to a cluster, of which some may fail; `clock` is for tests."""

    clock: Callable[[], float] = time.monotonic
    _silent: float | None = None

    @contextmanager
    def around(self) -> Iterator[None]:
        """Around a question: raises its ToolError only once none was answered for some minutes.

        The first failure is logged.
        """
        try:
            yield
        except ToolError as error:
            now = self.clock()
            if self._silent is None:
                self._silent = now
                log(f"the cluster does not answer, asking again for {PATIENCE_SECONDS / 60:.0f} minutes: {error}")
            if now - self._silent > PATIENCE_SECONDS:
                raise
        else:
            self._silent = None
