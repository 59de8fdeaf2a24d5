"""What a thread of the script holds is found; a library's thread is left out."""

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from samebits.runner.checkpoint.process_state.process_settings import grouped
from samebits.runner.checkpoint.process_state.thread_state import held_by_threads

_HERE = str(Path(__file__).parent)


def _counting(asked: "queue.Queue[bool]", answers: "queue.Queue[int]") -> None:
    number = 0
    while asked.get():
        number += 1
        answers.put(number)


class _Counter(threading.Thread):
    def __init__(self, asked: "queue.Queue[bool]", answers: "queue.Queue[int]") -> None:
        super().__init__(name="counter")
        self._asked, self._answers, self._held = asked, answers, 0

    def run(self) -> None:
        while self._asked.get():
            self._held += 1
            self._answers.put(self._held)


def _held(make: Callable[..., threading.Thread], code: str) -> list[dict[str, Any]]:
    """What the thread holds after its first and its second answer."""
    asked, answers, found = queue.Queue[bool](), queue.Queue[int](), []
    thread = make(asked, answers)
    thread.start()
    for _ in range(2):
        asked.put(True)
        answers.get()
        found.append(dict(held_by_threads(code)))
    asked.put(False)
    thread.join()
    return found


def _function(*queues: Any) -> threading.Thread:
    return threading.Thread(target=_counting, args=queues, name="counter")


def test_variables_of_a_function_are_found() -> None:
    assert [found["number in the thread counter"] for found in _held(_function, _HERE)] == [1, 2]


def test_attributes_of_a_thread_are_found() -> None:
    assert [found["_held in the thread counter, call 1"] for found in _held(_Counter, _HERE)] == [1, 2]


def test_attributes_of_the_main_thread_are_found() -> None:
    main: Any = threading.main_thread()
    assert dict(held_by_threads(_HERE)) == {}
    main.number = 1
    try:
        assert dict(held_by_threads("/elsewhere")) == {"number of the main thread": 1}
    finally:
        del main.number


def test_threads_of_libraries_are_left_out() -> None:
    assert _held(_function, "/elsewhere") == [{}, {}]


def test_threads_of_a_folder_beside_the_script_are_left_out() -> None:
    assert _held(_function, _HERE[:-1]) == [{}, {}]


def test_values_of_one_name_are_told_apart() -> None:
    found = grouped([("state", 1), ("other", 2), ("state", 3)])
    assert found == {"state": {"state": 1, "state (2)": 3}, "other": {"other": 2}}
