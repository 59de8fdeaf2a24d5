"""A graph that is traced again gets the seed that its first trace had, where the original run kept the graph."""

import json
from typing import Any

import pytest

from samebits.runner.checkpoint.process_state.kept_seeds import SEED, KeptSeeds
from samebits.runner.compat import tensorflow_random

STREAM = "step random_normal 100 7 1"


class Process:
    """A process: the seed that is set, and the graph that is traced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seed = 100
        self.kept = KeptSeeds()
        monkeypatch.setattr(tensorflow_random, "tensorflow_seed", lambda: self.seed)
        monkeypatch.setattr(tensorflow_random, "traced_function", lambda: self)
        monkeypatch.setattr(tensorflow_random, "restore_seed", lambda seed: setattr(self, "seed", seed))

    def set_seed(self, seed: int, *drawn: str) -> None:
        """What was drawn from since the last call."""
        self.kept.note_drawn(drawn)
        self.seed = seed

    def values(self, drawn: list[str]) -> dict[str, str]:
        """What a checkpoint holds beside the seed that is set."""
        found = self.kept.values(drawn)
        assert found.pop(SEED) == str(self.seed)
        return found

    def traced(self, function: str = "step random_normal") -> int:
        """The seed of an operation in a new graph."""
        return self.kept.seeds_of(function, self.seed, 7)[0]


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    return Process(monkeypatch)


def resumed(process: Process, values: Any) -> None:
    """A process that restores these values, and in which a callback sets a seed before anything is traced."""
    process.kept = KeptSeeds()
    assert process.kept.restore({**json.loads(json.dumps(values)), "other": "1 2 3"}) == {"other": "1 2 3"}
    process.set_seed(105)


def test_the_seed_that_is_set(process: Process) -> None:
    process.set_seed(7)
    saved = process.kept.values([])
    process.set_seed(8)
    assert process.kept.restore(saved) == {}
    assert process.seed == 7


@pytest.mark.parametrize("drawn", [[STREAM], []])
def test_the_seed_of_the_first_trace(process: Process, drawn: list[str]) -> None:
    assert process.values([STREAM]) == {}
    process.set_seed(101, STREAM)
    process.set_seed(102, *drawn)
    values = process.values(drawn)
    assert list(values.values()) == [STREAM]
    resumed(process, values)
    # Keras traces twice.
    assert [process.traced(), process.traced()] == [100, 100]
    assert process.traced("other random_normal") == 105
    assert process.values([STREAM]) == values
    # A later trace of the function has the seed of its own time.
    process.set_seed(106, STREAM)
    assert process.traced() == 106


def test_the_usual_seed_needs_no_note(process: Process) -> None:
    assert process.values([STREAM, " random_normal 100 5"]) == {}
    assert process.values([" random_normal 99 5"]) == {}
    process.set_seed(101, STREAM)
    # Another graph was used since: that of the next fold.
    assert process.values(["step random_normal 101 7 1"]) == {}


def test_a_model_that_was_compiled_again(process: Process) -> None:
    process.set_seed(101, STREAM)
    values = process.values([STREAM])
    process.kept.forget([STREAM])
    assert process.values([STREAM]) == {}
    process.kept.note_traced(STREAM)
    assert process.values([STREAM]) == values
    resumed(process, values)
    process.kept.forget([])
    assert process.traced() == 105


def test_two_seeds_of_zero(process: Process) -> None:
    """TensorFlow gives an operation another seed where the global one and its own are 0."""
    last = 2**31 - 1
    process.set_seed(101, "step random_normal 100 0 1")
    values = process.values(["step random_normal 100 0 1"])
    resumed(process, values)
    assert process.kept.seeds_of("step random_normal", 0, last) == (100, 0)
    process.seed = 0
    process.kept = KeptSeeds()
    process.set_seed(101, f"step random_normal 0 {last} 1")
    resumed(process, process.values([f"step random_normal 0 {last} 1"]))
    assert process.kept.seeds_of("step random_normal", 101, 0) == (0, last)
    assert process.kept.seeds_of("step random_normal", 101, 9) == (101, 9)


def test_a_function_that_was_traced_with_two_seeds(process: Process) -> None:
    process.set_seed(102, STREAM)
    resumed(process, process.values([STREAM, "step random_normal 101 7 1"]))
    assert process.traced() == 105
