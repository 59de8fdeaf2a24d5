"""What `weakref.finalize` will call of a script is known: it must not change during training."""

import gc
import weakref
from pathlib import Path

from samebits.runner.checkpoint.process_state.process_settings import finalizers

FOLDER = str(Path(__file__).parent)
NAME = f"weakref.finalize of {__name__}:{{}}"


class Held:
    """An object of a script."""

    def close(self) -> None:
        """Called when another one is gone."""


def called() -> None:
    """Called when an object is gone."""


def test_functions_of_the_script() -> None:
    before = finalizers(FOLDER)
    held, other = Held(), Held()
    first = weakref.finalize(held, called)
    weakref.finalize(held, called)
    weakref.finalize(held, other.close)
    weakref.finalize(held, list)
    found = {NAME.format("called"): "2", NAME.format("Held.close"): "1"}
    assert finalizers(FOLDER) == before | found
    assert finalizers("/elsewhere") == {}
    first.detach()
    assert finalizers(FOLDER)[NAME.format("called")] == "1"
    del held
    gc.collect()
    assert finalizers(FOLDER) == before
