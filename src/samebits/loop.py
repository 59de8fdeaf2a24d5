"""`samebits.checkpoint`: makes the run of a script with its own training loop resumable."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

_Item = TypeVar("_Item")

Follow = Callable[[Iterable[Any], tuple[Any, ...], Mapping[str, Any]], Iterator[Any]]
_follow: Follow | None = None


def checkpoint(rounds: Iterable[_Item], *state: object) -> Iterator[_Item]:
    """Iterate over `rounds`, and write a checkpoint after each one. A resumed run gets the remaining rounds.

        for epoch in samebits.checkpoint(range(10), model, optimizer, dataset, history):
            ...

    `rounds` must be iterable more than once, such as `range(10)`. `state` is everything that carries state from one
    round to the next: models, optimizers, metrics, variables, random generators, tf.data pipelines, and the script's
    own lists, dicts or objects. Outside of samebits this is `iter(rounds)`.
    """
    if _follow is None:
        return iter(rounds)
    # The runner looks for random generators that the script uses but did not pass.
    frame = inspect.currentframe()
    caller = frame and frame.f_back
    visible = {} if caller is None else {**caller.f_globals, **caller.f_locals}
    return _follow(rounds, state, visible)


def follow(rounds: Follow | None) -> None:
    """Set the function that `checkpoint` calls: with the rounds, the state, and all names visible to the caller.

    With None, `checkpoint` gives the rounds themselves again.
    """
    global _follow  # noqa: PLW0603  there is one training in a process
    _follow = rounds
