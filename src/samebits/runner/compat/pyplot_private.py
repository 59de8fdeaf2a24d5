"""The figures that pyplot holds. Its public way to one makes it the current figure, which a script would notice."""

import sys
from collections.abc import Iterator
from typing import Any


def open_figures() -> Iterator[tuple[int, Any]]:
    """Number and figure of each, the current one last; none where pyplot is not imported."""
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    if helpers is not None:
        yield from ((manager.num, manager.canvas.figure) for manager in list(helpers.Gcf.figs.values()))
