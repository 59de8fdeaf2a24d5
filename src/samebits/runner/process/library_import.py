"""The import of large libraries: without their messages, and without a search for garbage at every step."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samebits.runner.process.output_capture import log_descriptor


@contextmanager
def quiet_import(log: Path) -> Iterator[None]:
    """Import libraries: what C++ prints meanwhile goes into the log, and they are never searched for garbage."""
    with log_descriptor(log) as target, _no_collection():
        saved = os.dup(2)
        os.dup2(target, 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Look for no garbage: during an import that happens 600 times, among ever more objects."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # Libraries stay until the end. Each later collection would search these 400,000 objects again, for 0.15 s.
        gc.freeze()
        if enabled:
            gc.enable()
