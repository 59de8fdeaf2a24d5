"""Says while the script runs what would fail the run at its end: an output that links out of the run."""

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path

from samebits.core.errors import InputError
from samebits.core.output_walk import require_inside, walk_links
from samebits.runner.process.console import log

_SECONDS = 30.0  # between two looks
_MOST = 10_000  # names that one look reads


@dataclass(kw_only=True, slots=True)
class OutputLinks:
    """Looks at the links in a run's outputs, and names each that leads out once."""

    folder: Path
    ignore: tuple[str, ...]
    _named: set[str] = field(default_factory=set)
    _next: float = 0.0

    def look(self) -> None:
        """Look again, unless that was a moment ago."""
        if time.monotonic() < self._next:
            return
        # The script may change its outputs meanwhile; the end counts.
        for relative, path in itertools.islice(walk_links(self.folder, self.ignore), _MOST):
            if relative is not None and relative not in self._named:
                self._check(relative, path)
        self._next = time.monotonic() + _SECONDS

    def _check(self, relative: str, path: Path) -> None:
        try:
            require_inside(relative, path, self.folder)
        except InputError as error:
            self._named.add(relative)
            log(f"{error}; if it is still there when the script ends, the run fails")
        except OSError:
            return
