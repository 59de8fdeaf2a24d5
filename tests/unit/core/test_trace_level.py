"""Which steps a trace includes, and where it ends a run; a window is driven without a training."""

from collections.abc import Iterator

import pytest

from samebits.core.trace_level import Batches, Trace, TraceEnded, Window

FITS = [(0, 0), (0, 1), (1, 0)]
Place = tuple[int, int, int]


def fitted(trace: Trace, *, execution: int = 1) -> Iterator[Place]:
    """The included steps of two fits with epochs of four steps, until the window ends the run."""
    window = Window(trace)
    for fit, epoch in FITS:
        for first in range(0, 4, execution):
            batches = Batches(fit=fit, epoch=epoch, first=first, last=first + execution - 1)
            window.begin(batches)
            assert window.may_include_step() == window.includes(batches)
            if window.includes(batches):
                yield (fit, epoch, batches.last)
            window.end_batches(batches)
        window.leave()
        window.end_epoch(fit, epoch)
        if (fit, epoch + 1) not in FITS:
            window.end_fit(fit)


def every(fits: list[tuple[int, int]]) -> list[Place]:
    return [(fit, epoch, step) for fit, epoch in fits for step in range(4)]


@pytest.mark.parametrize(
    ("trace", "held", "ended"),
    [
        (Trace(level="step"), every(FITS), None),
        (Trace(level="step", fit=0), every(FITS[:2]), "ended after the traced fit, as asked"),
        (Trace(level="step", fit=0, epoch=1), every(FITS[1:2]), "ended after the traced epoch, as asked"),
        (Trace(level="tensor", fit=0, epoch=1, step=2), [(0, 1, 2)], "ended after the traced step, as asked"),
        (Trace(level="tensor", fit=0, epoch=1, step=4), [], None),
        (Trace(level="tensor", step=1), [], None),
        (Trace(level="tensor", loop=0, step=1), [], None),
    ],
    ids=["none", "fit", "epoch", "step", "beyond", "any-loop", "loop"],
)
def test_windows_of_fits(trace: Trace, held: list[Place], ended: str | None) -> None:
    found: list[Place] = []
    message = None
    try:
        for place in fitted(trace):
            found.append(place)  # noqa: PERF402  those before the end count
    except TraceEnded as over:
        message = str(over)
    assert (found, message) == (held, ended)


def test_one_execution_of_many_steps_is_included_whole() -> None:
    steps = fitted(Trace(level="tensor", fit=0, epoch=0, step=2), execution=2)
    assert next(steps) == (0, 0, 3)
    with pytest.raises(TraceEnded):
        next(steps)


def looped(trace: Trace, order: list[int]) -> tuple[list[tuple[int, int]], list[tuple[int, int]], bool]:
    """For steps of loops in this order: which may be included, which are, and whether the last one ends the run."""
    window = Window(trace)
    taken, held = [], []
    for number, loop in enumerate(order):
        takes = window.may_include_step()
        place = (loop, window.count(loop))
        if takes:
            taken.append(place)
        if window.includes_step(*place):
            held.append(place)
        try:
            window.end_steps()
        except TraceEnded:
            assert number == len(order) - 1, "ended too early"
            return taken, held, True
    return taken, held, False


@pytest.mark.parametrize(
    ("trace", "order", "held", "ends"),
    [
        (Trace(level="tensor"), [0, 0, 1], [(0, 0), (0, 1), (1, 0)], False),
        (Trace(level="tensor", step=1), [0, 0], [(0, 1)], True),
        (Trace(level="tensor", step=1), [0, 1, 0, 1], [(0, 1), (1, 1)], True),
        (Trace(level="tensor", loop=1, step=1), [0, 0, 0, 1, 1], [(1, 1)], True),
        (Trace(level="tensor", loop=1, step=2), [0, 1, 1, 1], [(1, 2)], True),
        (Trace(level="tensor", loop=1, step=0), [0, 0, 1], [(1, 0)], True),
        (Trace(level="tensor", loop=0, step=2), [0, 0, 1, 1, 1], [], False),
        (Trace(level="tensor", fit=0), [0, 0], [], False),
    ],
    ids=["none", "any", "interleaved", "second", "shorter-first", "first-step", "never", "of-a-fit"],
)
def test_windows_of_loops(trace: Trace, order: list[int], held: list[tuple[int, int]], ends: bool) -> None:
    taken, found, ended = looped(trace, order)
    assert (found, ended) == (held, ends)
    assert set(found) <= set(taken)


def test_without_a_step_nothing_ends() -> None:
    """For example, an optimizer whose models have all finished their step."""
    Window(Trace(level="tensor", step=0)).end_steps()


def test_a_finished_fit_does_not_hide_loops() -> None:
    window = Window(Trace(level="tensor", loop=0, step=0))
    window.begin(Batches(fit=0, epoch=0, first=0, last=0))
    assert not window.may_include_step()
    window.leave()
    assert window.may_include_step()
