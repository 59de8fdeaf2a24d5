"""Whether an object holds more than its attributes, which a walk would lose."""

import array
import collections
import dataclasses
import datetime as dt
import gzip
import io
import logging
import multiprocessing
import queue
import re
import threading
import weakref
from pathlib import Path
from typing import Any

import h5py
import pytest

from samebits.core.checkpoint_store import CheckpointStore
from samebits.runner.checkpoint.files.output_files import OutputSnapshot
from samebits.runner.checkpoint.state.capture_containers import encode_container
from samebits.runner.checkpoint.state.encoding import PathMap, UncapturableError, name_in_file, qualified_name
from samebits.runner.checkpoint.state.library_objects import (
    COMPARE,
    REFUSE,
    WALK,
    compared_text,
    handling_of,
    is_immutable,
    written_to_memory,
)
from samebits.runner.checkpoint.state.object_inspection import attributes_of, has_hidden_state, is_open_elsewhere
from support.clocks import at_time


class Plain:
    """Attributes only."""


@dataclasses.dataclass(slots=True)
class Slots:
    """Slots only."""

    one: int = 0
    two: int = 0


class Private:
    """A private slot, whose name Python changes."""

    __slots__ = ("__count", "name")

    def __init__(self) -> None:
        self.name, self.__count = "n", 3


class _Inner(Private):
    """Another one of the same name."""

    __slots__ = ("__count",)

    def __init__(self) -> None:
        super().__init__()
        self.__count = 4


class Covered:
    """A slot that nothing reaches by its name."""

    __slots__ = ("one",)


del Covered.one  # type: ignore[attr-defined]


class Both(Slots):
    """Slots and attributes."""


class Bytes(bytearray):
    """Bytes that are no attribute."""


class Numbers(array.array):  # type: ignore[type-arg]
    """Numbers that are no attribute."""


@pytest.mark.parametrize("kind", [Plain, Slots, Both, Private, _Inner, queue.Queue])
def test_attributes_and_slots_are_all(kind: type) -> None:
    assert not has_hidden_state(kind)


@pytest.mark.parametrize("kind", [Bytes, Numbers, bytearray, queue.SimpleQueue, collections.deque, Covered])
def test_what_is_written_in_c_holds_more(kind: type) -> None:
    assert has_hidden_state(kind)


def test_private_slots_have_the_names_that_python_gives_them() -> None:
    assert attributes_of(Private()) == {"name": "n", "_Private__count": 3}
    assert attributes_of(_Inner()) == {"name": "n", "_Private__count": 3, "_Inner__count": 4}


def test_only_files_that_are_written_in_the_run_are_restored(tmp_path: Path) -> None:
    inside, outside = tmp_path / "run", tmp_path / "other"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "file").write_text("x")
    for folder, mode, expected in ((inside, "a", False), (inside, "r", True), (outside, "a", True)):
        with (folder / "file").open(mode) as file:
            assert is_open_elsewhere(file, inside) == expected
        assert not is_open_elsewhere(file, inside), "closed"


def test_an_object_is_announced_before_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may remove what is not announced."""
    store = CheckpointStore(tmp_path / "checkpoints")

    def announce(digest: str) -> None:
        if len(announced) == 1:  # as a concurrent `prune` would, just before
            for path in store.objects.iterdir():
                path.unlink()
        announced.append(digest)

    announced: list[Any] = []
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / "file").write_text("x")
    snapshot = OutputSnapshot(outputs, (), store, announce)
    at_time(monkeypatch, "2101-01-01T00:00:00+00:00")  # the file's times are past
    snapshot.capture()
    snapshot.capture()
    assert len(list(store.objects.iterdir())) == 1
    assert len(announced) == 3, "stored, announced, and stored again"


def test_a_connection_between_processes_cannot_be_saved() -> None:
    with multiprocessing.Pipe()[0] as connection:
        assert handling_of(connection) == REFUSE


def test_what_a_text_cuts_off_is_compared() -> None:
    """Patterns, matches and generic types by all that they hold; locks by whether they are held."""
    pairs: list[tuple[Any, Any]] = [
        (re.compile("a" * 300), re.compile("a" * 300 + "b")),
        (re.compile("a"), re.compile("a", re.IGNORECASE)),
        (re.match("(.)(.*)", "ab"), re.match("(.)(.*)", "ac")),
        (re.match("(.)(.*)", "ab"), re.match("(..)(.*)", "ab")),
        (list[int], list[str]),
    ]
    for one, other in pairs:
        assert handling_of(one) == handling_of(other) == COMPARE
        assert compared_text(one) != compared_text(other)


def test_a_lock_is_compared_by_its_state() -> None:
    for lock in (threading.Lock(), threading.RLock()):
        assert handling_of(lock) == COMPARE
        free = compared_text(lock)
        with lock:
            held = compared_text(lock)
        assert held != free == compared_text(lock)
        assert " at 0x" not in held
    with lock, lock:
        assert compared_text(lock) not in (held, free)


def test_a_lock_of_another_thread_is_waited_for() -> None:
    lock = threading.Lock()
    free = compared_text(lock)
    lock.acquire()
    release = threading.Timer(0.01, lock.release)
    release.start()
    assert compared_text(lock) == free
    release.join()


class Day(dt.date):
    """A date with attributes."""


def test_a_date_with_attributes_is_not_immutable() -> None:
    assert is_immutable(dt.date(2020, 1, 1))
    assert not is_immutable(Day(2020, 1, 1))


def test_what_a_handler_writes_to_memory_is_compared(tmp_path: Path) -> None:
    """A file of `open` is restored with the output files; what compresses is refused."""
    handler = logging.StreamHandler(io.StringIO())
    assert written_to_memory(handler) == ""
    handler.emit(logging.makeLogRecord({"msg": "line"}))
    assert written_to_memory(handler) == "line\n"
    assert written_to_memory(logging.StreamHandler()) is None
    with (tmp_path / "log").open("w") as file, gzip.open(tmp_path / "log.gz", "wt") as compressed:
        assert written_to_memory(logging.StreamHandler(file)) is None
        with pytest.raises(UncapturableError, match=r"its stream is a gzip\.GzipFile"):
            written_to_memory(logging.StreamHandler(compressed))


def test_a_mapping_is_captured_by_what_holds_its_items() -> None:
    """To write the items of a chain would write all of them into its first dict."""
    chain = collections.ChainMap({}, {"a": 1})
    assert encode_container(chain, "chain", lambda value, _: value) is None
    factories: list[Any] = [collections.defaultdict(kind) for kind in (list, dict)]
    one, other = (encode_container(held, "held", lambda value, _: value) for held in factories)
    assert one is not None
    assert one != other
    assert encode_container(weakref.WeakValueDictionary(), "weak", lambda value, _: value) is not None


def test_a_path_in_bytes_is_that_of_the_run() -> None:
    old, new = (PathMap({"run": Path(f"/runs/{name}")}) for name in ("a", "longer"))
    for text in ("/runs/a/log", "name /runs/a", "/runs/ab"):
        saved = old.leave_bytes(text.encode())
        assert new.arrive_bytes(saved["bytes"]).decode() == new.arrive(kept_text(old, text))
    assert new.arrive_bytes(old.leave_bytes(b"\xff/runs/a")["bytes"]) == b"\xff/runs/a"


def kept_text(folders: PathMap, text: str) -> str:
    """A text with marks in place of paths."""
    found = folders.leave(text)
    return str(found if isinstance(found, str) else found["text"])


class Bar:
    """What tqdm's bars have."""

    def __init__(self) -> None:
        self.n, self.last_print_t = 3, 0.5


def test_of_a_bar_the_count_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bar, "__module__", "tqdm.std")
    assert (handling_of(Bar()), attributes_of(Bar())) == (WALK, {"n": 3})


def test_a_file_that_is_only_read_stands_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["one"], file["two"] = [1], [2]
        assert name_in_file(file) is None
    with h5py.File(path, "r") as file:
        parts = file, file["one"], file["two"]
        names = [name_in_file(part) for part in parts]
        assert names == list(map(qualified_name, parts))
        assert names == [f"h5py._hl.{text}" for text in ("files:File data.h5:/", *_PARTS)]
    assert [name_in_file(part) for part in parts] == [None] * 3
    with h5py.File(path, "r+") as file:
        assert name_in_file(file["one"]) is None
    assert name_in_file("/") is None


_PARTS = ("dataset:Dataset data.h5:/one", "dataset:Dataset data.h5:/two")
