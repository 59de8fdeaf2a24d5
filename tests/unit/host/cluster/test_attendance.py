"""A pod of several workers that is gone is noticed, whatever it was doing."""

import queue
import socket
import time
from collections.abc import Iterator

import pytest

from samebits.host.cluster.attendance import Attendance, attend, is_open

HERE = "127.0.0.1"


@pytest.fixture
def attendance() -> Iterator[Attendance]:
    found = Attendance(HERE, "token")
    yield found
    found.close()


def wait_until(attendance: Attendance, address: str, *, here: bool) -> None:
    deadline = time.monotonic() + 5
    while attendance.has(1, address) != here:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_who_is_there(attendance: Attendance) -> None:
    assert not attendance.has(1, "a")
    line = attend(attendance.meeting, "token", 1, "a")
    assert attendance.has(1, "a")
    assert not attendance.has(1, "b")
    assert is_open(line)
    line.close()
    wait_until(attendance, "a", here=False)


def test_a_loss_is_reported_once(attendance: Attendance) -> None:
    lost: queue.Queue[int] = queue.Queue()
    line = attend(attendance.meeting, "token", 1, "a")
    # One that is gone before anybody asks counts as well.
    attendance.on_loss({1: "a", 2: "b"}, lost.put)
    assert lost.get(timeout=5) == 2
    line.close()
    assert lost.get(timeout=5) == 1
    assert lost.empty()


def test_nobody_is_lost_at_the_end(attendance: Attendance) -> None:
    lost: list[int] = []
    line = attend(attendance.meeting, "token", 1, "a")
    attendance.on_loss({1: "a"}, lost.append)
    attendance.close()
    deadline = time.monotonic() + 5
    while is_open(line):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    line.close()
    assert lost == []


def test_two_pods_of_one_index(attendance: Attendance) -> None:
    """Whichever has answered last is there. The end of the other one is no loss."""
    lost: list[int] = []
    first = attend(attendance.meeting, "token", 1, "a")
    second = attend(attendance.meeting, "token", 1, "b")
    assert attendance.has(1, "a")
    assert attendance.has(1, "b")
    attendance.on_loss({1: "b"}, lost.append)
    first.close()
    wait_until(attendance, "a", here=False)
    assert attendance.has(1, "b")
    assert lost == []
    second.close()
    wait_until(attendance, "b", here=False)


def test_a_node_without_power_is_noticed(attendance: Attendance) -> None:
    """It closes nothing. The kernel asks, and ends the connection after five seconds."""
    with attend(attendance.meeting, "token", 1, "a") as line:
        channel = attendance._here[1, "a"]
        for end in (line, channel):
            options = (socket.TCP_USER_TIMEOUT, socket.TCP_KEEPIDLE)
            assert [end.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [5000, 2]


@pytest.mark.parametrize("text", ["other 1 a\n", "token x a\n", "token\n", "\n", "token 1 a b\n"])
def test_strangers(attendance: Attendance, text: str) -> None:
    with socket.create_connection((HERE, attendance.meeting.port)) as channel:
        channel.sendall(text.encode())
        assert channel.recv(1) == b""
    assert not attendance.has(1, "a")
    with pytest.raises(OSError, match="closed"):
        attend(attendance.meeting, "other", 1, "a")


def test_a_line_that_is_none() -> None:
    assert not is_open(None)
    with socket.socket() as unconnected:
        assert not is_open(unconnected)
