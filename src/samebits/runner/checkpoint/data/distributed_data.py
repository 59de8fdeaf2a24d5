"""The position in data that several workers train with: a pipeline that a strategy distributes.

An iterator over such a pipeline cannot be saved. So a resumed run opens the pipeline as often as the original run did,
and draws as many elements from it each time, in all workers at once. That reads the data again, and trains nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any

from samebits.runner.checkpoint.state.encoding import UncapturableError


def capture(feed: Any, *, persistent: bool) -> dict[str, Any]:
    """What `restore` needs: how many elements were drawn from each opening of the pipeline, but for one still open."""
    openings = drawn_of(feed)
    return {"openings": openings[:-1] if persistent else openings}


def drawn_of(feed: Any) -> list[int]:
    """How many elements were drawn from each opening so far."""
    return [*feed.openings[:-1], feed.used] if feed.openings else []


def restore(feed: Any, state: Mapping[str, Any], open_feed: Callable[[Any], Any], *, stateless: bool) -> None:
    """Open and draw as the original run did, unless the pipeline is `stateless`: it then begins the same way each time.

    Raises UncapturableError where this run has opened it otherwise already.
    """
    done = drawn_of(feed)
    if done != state["openings"][: len(done)]:
        raise UncapturableError("the data of the workers is opened otherwise when the script runs again")
    if stateless:
        feed.openings, feed.used = [*state["openings"]], (state["openings"] or [0])[-1]
        return
    for number in state["openings"][len(done) :]:
        iterator = open_feed(feed)
        draw(iterator, number)
        feed.used = number


def draw(iterator: Any, number: int) -> None:
    """Draw elements; Keras also counts the attempt after the last."""
    for _ in range(number):
        if next(iterator, None) is None:
            return
