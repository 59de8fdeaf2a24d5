"""Which names a loop may carry to its next iteration, by the code of the frame that iterates."""

import inspect
from collections.abc import Iterator

import pytest

from samebits.runner.checkpoint.loop_variables import loop_frames
from samebits.runner.checkpoint.state.live_names import live_names


def looking(found: list[list[str]]) -> Iterator[int]:
    """Iterate, and note the names that are live in the frame that does."""
    for number in range(2):
        frame = inspect.currentframe()
        assert frame is not None
        assert frame.f_back is not None
        found.append(live_names(frame.f_back))
        yield number


def test_what_is_read_before_it_is_written() -> None:
    found: list[list[str]] = []
    carried, held, rows, lost, after = 0, [0], [1, 2], 0.0, 1
    for _ in looking(found):
        lost = 2.0
        assert lost
        made = [row for row in rows]  # noqa: C416
        carried += len(made)
        held.append(carried)
        for row in rows:
            row += 1  # noqa: PLW2901
    assert after == 1
    assert {name for name in found[0] if name.islower()} >= {"after", "carried", "held", "rows"}
    assert not {"lost", "made", "row"} & {*found[0]}


def test_what_a_handler_and_a_break_read() -> None:
    found: list[list[str]] = []
    best, kept = 3, 4
    for number in looking(found):
        try:
            assert number < 1
        except AssertionError:
            print(kept)
            break
        best = number
    print(best)
    assert {"best", "kept"} <= {*found[0]}


def test_what_an_inner_function_reads() -> None:
    found: list[list[str]] = []
    total = 0

    def read() -> int:
        return total

    for _ in looking(found):
        total += 1
    assert read() == 2
    assert "total" in found[0]


_kept = 0


def test_what_a_function_leaves_to_others() -> None:
    """Its caller, or a function that was made before, may read what the loop assigned last."""
    found: list[list[str]] = []
    best = 0

    def loop() -> None:
        nonlocal best
        global _kept  # noqa: PLW0603
        shown = 1
        shows = [lambda: shown]
        for number in looking(found):
            if number:
                best = _kept = shown = number
            lost = number
            shows[1:] = [lambda: lost]  # noqa: B023

    loop()
    assert best + _kept == 2
    assert {"best", "_kept", "shown"} <= {*found[0]}
    assert "lost" not in found[0]


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_frames_that_iterate(*, wrapped: bool) -> None:
    names: list[list[str]] = []

    def looped() -> Iterator[None]:
        frames = loop_frames(lambda module: module == __name__)
        names.append([frame.f_code.co_name for frame in frames if frame.f_code is not looped.__code__])
        yield

    def inner() -> Iterator[None]:
        yield from looped()

    for _ in inner() if wrapped else looped():
        pass
    assert names == [["inner", "test_the_frames_that_iterate"] if wrapped else ["test_the_frames_that_iterate"]]
