"""`samebits.checkpoint`: what a script with a training loop of its own calls, so that its run can be resumed."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

Follow = Callable[[Iterable[Any], tuple[Any, ...], Mapping[str, Any]], Iterator[Any]]
_follow: Follow | None = None


def checkpoint(rounds: Iterable[T], *state: object) -> Iterator[T]:
    """The rounds of a training loop, with a checkpoint behind each; a resumed run gets those that are still to be made.

    `rounds` is what can be iterated anew, such as `range(10)`. `state` is all that goes on from round to round: models,
    optimizers, metrics, variables, random generators, tf.data pipelines, and lists, dicts or objects of the script's
    own. Outside of samebits these are the rounds, and nothing else.

        for epoch in samebits.checkpoint(range(10), model, optimizer, dataset, history):
    """
    if _follow is None:
        return iter(rounds)
    frame = sys._getframe(1)  # noqa: SLF001  to see what random generators are there, and not named
    return _follow(rounds, state, {**frame.f_globals, **frame.f_locals})


def follow(rounds: Follow) -> None:
    """From here on rounds are given by this function, which is also given all names where it is asked for them."""
    global _follow  # noqa: PLW0603  there is one training in a process
    _follow = rounds
