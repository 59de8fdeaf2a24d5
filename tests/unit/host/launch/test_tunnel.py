"""Workers in containers without a network reach each other through their launchers, and nobody else reaches them."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.errors import InputError
from samebits.core.record import Record
from samebits.core.run_dir import TUNNEL_SOCKET, RunDir
from samebits.core.run_setup import RunSetup
from samebits.host.launch import tunnel as tunnel_module
from samebits.host.launch.runtime import Runtime
from samebits.host.launch.tunnel import Tunnel, through_tunnel

CONTAINER = """
import hashlib, socket, sys, threading
from pathlib import Path
from samebits.core.run_dir import RunDir
from samebits.runner.process.private_network import connected
from samebits.runner.workers.joining import gather, join
from samebits.runner.workers.tunnel import place_of

folder, index, hosts = RunDir(Path(sys.argv[1])), int(sys.argv[2]), ["n1", "n2", "n3"]
place = place_of(folder, index, hosts)
assert not connected()

def serve():
    for _ in range(2):
        channel, _ = server.accept()
        with channel, channel.makefile("rb") as sent:
            channel.sendall(f"{index} {hashlib.sha256(sent.read()).hexdigest()}".encode())

host, port = place.own.split(":")
serving = threading.Thread(target=serve)
# As TensorFlow's server, which starts with the script's strategy: others may connect before.
starting = threading.Timer(0.3 * index, lambda: None)
if index:
    channel, addresses = join(folder, index, place.own, 20)
else:
    joined = gather(folder, hosts, place.own, 20, at=place.meeting)
    addresses = joined.addresses
starting.start(); starting.join()
server = socket.create_server((host, int(port)))
serving.start()
content = bytes([index]) * 3_000_000
for other, address in enumerate(addresses):
    if other != index:
        host, port = address.split(":")
        with socket.create_connection((host, int(port))) as channel_of_other:
            channel_of_other.sendall(content)
            channel_of_other.shutdown(socket.SHUT_WR)
            print(channel_of_other.makefile().read(), flush=True)
serving.join()
sys.stdin.read()
"""


def folders(run: RunDir, workers: int) -> list[RunDir]:
    """What the containers see: one folder, but a socket each."""
    run.workers.mkdir(parents=True)
    seen = []
    for index in range(workers):
        inside = RunDir(run.path.parent / f"inside-{index}")
        inside.tunnel.mkdir(parents=True)
        seen.append(inside)
        if index:
            inside.workers.symlink_to(seen[0].workers)
        else:
            inside.workers.mkdir()
    return seen


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


@contextmanager
def containers(seen: list[RunDir]) -> Iterator[list[subprocess.Popen[str]]]:
    words = [[sys.executable, "-c", CONTAINER, str(inside.path), str(index)] for index, inside in enumerate(seen)]
    with ExitStack() as stack:
        started = [
            stack.enter_context(subprocess.Popen(word, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for word in words
        ]
        yield started
        for process in started:
            process.kill()


def test_containers_without_a_network_reach_each_other(run: RunDir) -> None:
    seen = folders(run, 3)
    tunnels = [Tunnel(run, index, "127.0.0.1", inside.tunnel) for index, inside in enumerate(seen)]
    with containers(seen) as started:
        said = [sorted(str(process.stdout and process.stdout.readline()) for _ in range(2)) for process in started]
        assert [[line.split()[0] for line in lines] for lines in said] == [["1", "2"], ["0", "2"], ["0", "1"]]
        # All received what each has sent.
        for index, lines in enumerate(said):
            assert len({line.split()[1] for line in lines}) == 1, index
        assert json.loads(seen[0].worker_meeting.read_text())["host"] == "127.0.0.1"
    for index, tunnel in enumerate(tunnels):
        entrance = run.worker_entrance(index)
        assert entrance.stat().st_mode & 0o077 == 0
        tunnel.close()
        assert not entrance.exists()


def test_strangers_get_nothing(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither who does not know the secret, nor who has heard an answer to another line."""
    monkeypatch.setattr(tunnel_module, "WAIT_SECONDS", 0.5)
    (inside,) = folders(run, 1)
    tunnel = Tunnel(run, 0, "127.0.0.1", inside.tunnel)
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(str(inside.tunnel / TUNNEL_SOCKET))
    waiting.sendall(b"wait\n")
    entrance = json.loads(run.worker_entrance(0).read_text())
    where = entrance["host"], entrance["port"]
    answer = tunnel._entrance.answer("0" * 64, 10240)
    for line in (b"x 10240\n", f"{answer} 10240\n".encode(), b"\xff\n", b"1 2 3\n", b"x -1\n", b"x 65536\n"):
        with socket.create_connection(where, timeout=5) as channel:
            assert len(channel.makefile().readline()) == 65
            channel.sendall(line)
            assert channel.recv(1) == b""
    waiting.settimeout(0.1)
    with pytest.raises(TimeoutError):
        waiting.recv(1)
    waiting.close()
    tunnel.close()


@pytest.mark.parametrize(
    "line", [b"to ../../x 1\n", b"to 1 0\n", b"to 1 99999\n", b"to 0 22 x\n", b"\n", b"\xff\n", b"x" * 70_000]
)
def test_what_a_container_may_not_ask(run: RunDir, line: bytes) -> None:
    (inside,) = folders(run, 1)
    tunnel = Tunnel(run, 0, "127.0.0.1", inside.tunnel)
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(str(inside.tunnel / TUNNEL_SOCKET))
        channel.sendall(line)
        channel.settimeout(5)
        with suppress(ConnectionResetError):
            assert channel.recv(1) == b""
    tunnel.close()


def test_another_node_that_is_lost_ends_the_connection(run: RunDir) -> None:
    seen = folders(run, 2)
    tunnels = [Tunnel(run, index, "127.0.0.1", inside.tunnel) for index, inside in enumerate(seen)]
    waiting, calling = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    waiting.connect(str(seen[1].tunnel / TUNNEL_SOCKET))
    waiting.sendall(b"wait\n")
    calling.connect(str(seen[0].tunnel / TUNNEL_SOCKET))
    calling.sendall(b"to 1 10241\nhello")
    assert waiting.makefile().readline() == "10241\n"
    waiting.close()
    calling.settimeout(5)
    began = time.monotonic()
    assert calling.recv(1) == b""
    assert time.monotonic() - began < 5
    calling.close()
    for tunnel in tunnels:
        tunnel.close()


def test_a_long_temporary_folder(run: RunDir, tmp_path: Path) -> None:
    """The address of a socket has at most 107 bytes."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    run.workers.mkdir(parents=True)
    Tunnel(run, 0, "127.0.0.1", folder).close()


def test_an_engine_of_another_machine(run: RunDir, example: Record) -> None:
    """Its containers do not see the socket."""
    setup = RunSetup(image=example.recipe.image)
    runtime = Runtime(setup=setup, prepare=lambda: None, run=lambda *_: 9, query=lambda *_: (9, ""))
    for other in (replace(runtime, here=False, linked=lambda _: runtime), runtime):
        with (
            pytest.raises(InputError, match="several workers need a container engine on each node itself"),
            through_tunnel(other, run, 0, "127.0.0.1"),
        ):
            pass
