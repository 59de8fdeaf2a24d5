"""What descriptors hold is compared: it must not change during training. What libraries open by themselves may."""

import mmap
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from samebits.core.jsonio import differing_names
from samebits.runner.checkpoint.process_state.open_descriptors import OpenDescriptors


@contextmanager
def _opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    number = os.open(path, flags)
    try:
        yield number
    finally:
        os.close(number)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.txt"
    path.write_text("".join(f"{number}\n" for number in range(20)))
    return path


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """What is closed at the end."""
    with ExitStack() as stack:
        yield stack


class _Begun:
    """A phase that has begun."""

    def __init__(self, own: Path, *uses: str, opened: Path | None = None, lists: bool = False) -> None:
        self.found = OpenDescriptors(own, (own / "outputs", own / "work"))
        self.found.opened = lambda: frozenset({os.path.realpath(opened)} if opened else ())
        self._uses, self._lists = frozenset(uses), lists

    def begin(self) -> "_Begun":
        self.found.begin_phase(self._uses, lists=self._lists)
        self._before = self.found.now()
        return self

    def changed(self) -> list[str]:
        return differing_names(self._before, self.found.now())


def test_the_position_of_a_descriptor(tmp_path: Path, file: Path, held: ExitStack) -> None:
    begun = _Begun(tmp_path / "own", opened=file)
    number = held.enter_context(_opened(file))
    begun.begin()
    assert begun.changed() == []
    os.pread(number, 4, 8)
    assert begun.changed() == []
    os.read(number, 4)
    assert begun.changed() == ["the position of a descriptor of numbers.txt"]


def test_a_descriptor_that_is_opened_during_training(tmp_path: Path, file: Path, held: ExitStack) -> None:
    begun = _Begun(tmp_path / "own", opened=file).begin()
    os.read(held.enter_context(_opened(file)), 4)
    assert begun.changed() == ["the position of a descriptor of numbers.txt"]


def test_a_descriptor_counts_without_being_read(tmp_path: Path, held: ExitStack) -> None:
    begun = _Begun(tmp_path, opened=Path("/dev/null"))
    held.enter_context(_opened(Path("/dev/null")))
    begun.begin()
    assert begun.changed() == []
    held.enter_context(_opened(Path("/dev/null")))
    assert begun.changed() == ["the position of a descriptor of null"]


def test_what_a_library_opens_may_move(tmp_path: Path, file: Path, held: ExitStack) -> None:
    begun = _Begun(tmp_path / "own").begin()
    os.read(held.enter_context(_opened(file)), 4)
    assert begun.changed() == []
    assert _Begun(tmp_path, opened=file).begin().changed() == []  # it lies in the run


def test_what_samebits_opens_is_left_out(tmp_path: Path, held: ExitStack) -> None:
    for folder in ("checkpoints", "outputs", "work"):
        (tmp_path / folder).mkdir()
    begun = {path: _Begun(tmp_path, opened=path).begin() for path in (tmp_path, *tmp_path.iterdir())}
    for path in begun:
        held.enter_context(_opened(path))
    assert {path.name for path, item in begun.items() if item.changed()} == {"outputs", "work"}


def test_what_was_open_before_the_script_may_move(tmp_path: Path, file: Path, held: ExitStack) -> None:
    number = held.enter_context(_opened(file))
    begun = _Begun(tmp_path / "own", opened=file).begin()
    os.read(number, 4)
    assert begun.changed() == []


def test_a_copy_of_a_descriptor(tmp_path: Path, file: Path, held: ExitStack) -> None:
    begun = _Begun(tmp_path / "own", "dup")
    with file.open("rb") as other:
        number = os.dup(other.fileno())
    held.callback(os.close, number)
    begun.begin()
    os.read(number, 4)
    assert begun.changed() == ["the position of a descriptor of numbers.txt"]
    # A mapping keeps a descriptor as well, at the position where it was made.
    with file.open("rb") as other:
        other.seek(7)
        held.enter_context(mmap.mmap(other.fileno(), 0, access=mmap.ACCESS_READ))
    os.lseek(number, 0, os.SEEK_SET)
    assert begun.changed() == []


def test_a_mapping_of_a_file_that_was_opened_too(tmp_path: Path, file: Path, held: ExitStack) -> None:
    begun = _Begun(tmp_path / "own", opened=file)
    with file.open("rb") as other:
        other.seek(7)
        held.enter_context(mmap.mmap(other.fileno(), 0, access=mmap.ACCESS_READ))
    assert begun.begin().changed() == []
    assert begun.found.now() == {}


@pytest.mark.parametrize("move", [lambda f: f.readline(), lambda f: f.seek(3)])
@pytest.mark.parametrize("mode", ["r", "rb"])
def test_a_file_that_was_open_when_training_began(
    move: Callable[[Any], object], mode: str, tmp_path: Path, file: Path, held: ExitStack
) -> None:
    begun = _Begun(tmp_path / "own")
    opened = held.enter_context(file.open(mode))
    begun.begin()
    assert begun.changed() == []
    move(opened)
    assert begun.changed() == [f"the position in numbers.txt (descriptor {opened.fileno()})"]


def test_a_file_may_be_closed_during_training(tmp_path: Path, file: Path) -> None:
    begun = _Begun(tmp_path / "own")
    with file.open() as opened:
        opened.readline()
        begun.begin()
    assert begun.changed() == []


def test_a_file_of_python_that_is_opened_during_training_may_move(tmp_path: Path, file: Path, held: ExitStack) -> None:
    begun = _Begun(tmp_path / "own", "dup", opened=file).begin()
    held.enter_context(file.open()).readline()
    assert begun.changed() == []


def test_what_a_pipe_holds(tmp_path: Path, held: ExitStack) -> None:
    begun = _Begun(tmp_path, "pipe")
    read, write = os.pipe()
    held.callback(os.close, read)
    held.callback(os.close, write)
    begun.begin()
    assert begun.changed() == []
    os.write(write, b"1")
    assert begun.changed() == [f"what a pipe holds (descriptor {read})"]
    begun.begin()
    os.read(read, 1)
    os.write(write, b"2")
    assert begun.changed() == [f"what a pipe holds (descriptor {read})"]


def test_pipes_of_libraries_are_left_out(tmp_path: Path, held: ExitStack) -> None:
    begun = [_Begun(tmp_path), _Begun(tmp_path, "pipe", "socketpair")]
    read, write = os.pipe()
    ends = socket.socketpair()
    for end in (*ends, os.fdopen(read, "rb"), os.fdopen(write, "wb", buffering=0)):
        held.enter_context(end)
    begun = [item.begin() for item in begun]
    os.write(write, b"1")
    ends[0].send(b"1")
    assert [item.changed() for item in begun] == [[], []]


def test_the_counter_of_an_eventfd(tmp_path: Path, held: ExitStack) -> None:
    begun = _Begun(tmp_path, "eventfd")
    number = os.eventfd(1)
    held.callback(os.close, number)
    begun.begin()
    assert begun.changed() == []
    os.eventfd_write(number, 1)
    assert begun.changed() == [f"the counter of an eventfd (descriptor {number})"]


def test_a_file_without_a_name(tmp_path: Path, held: ExitStack) -> None:
    begun = _Begun(tmp_path, "memfd_create")
    number = os.memfd_create("held")
    held.callback(os.close, number)
    begun.begin()
    assert begun.changed() == []
    os.pwrite(number, b"1", 0)
    assert begun.changed() == [f"a file without a name (descriptor {number})"]


def test_the_number_of_open_files_counts_where_code_asks_for_it(tmp_path: Path, file: Path, held: ExitStack) -> None:
    kinds = [_Begun(tmp_path / "own"), _Begun(tmp_path / "own", lists=True), _Begun(tmp_path / "own", "num_fds")]
    begun = [kind.begin() for kind in kinds]
    held.enter_context(_opened(file))
    assert [item.changed() for item in begun] == [[], ["the number of open files"], ["the number of open files"]]
