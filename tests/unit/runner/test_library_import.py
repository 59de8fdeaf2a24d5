"""What an import of libraries leaves as it was."""

import gc
import weakref
from pathlib import Path

import pytest

from samebits.runner.process.library_import import quiet_import


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_looked_for_in_what_an_import_made(tmp_path: Path, enabled: bool) -> None:
    before, thresholds = gc.isenabled(), gc.get_threshold()
    (gc.enable if enabled else gc.disable)()
    try:
        with quiet_import(tmp_path / "log.txt"):
            assert not gc.isenabled()
            made = _Node()
        assert (gc.isenabled(), gc.get_threshold()) == (enabled, thresholds)
        assert not any(item is made for item in gc.get_objects())
        # What is made later is garbage as any other, also where it refers to a library.
        later = _Node(made)
        cycle = weakref.ref(later)
        del later
        gc.collect()
        assert cycle() is None
    finally:
        gc.unfreeze()
        (gc.enable if before else gc.disable)()


class _Node:
    def __init__(self, library: object = None) -> None:
        self.other: object = self
        self.library = library
