"""The workers' own network: nobody else reaches what listens there."""

import os
import socket
import subprocess
import sys
from contextlib import closing

import pytest

from samebits.core.errors import SettingError
from samebits.runner.process import private_network

_INSIDE = """
import ctypes, encodings.idna, os, socket, sys
from samebits.runner.process.private_network import connected, leave_networks
if sys.argv[1] != str(os.getuid()):
    os.setgroups([])
    os.setgid(int(sys.argv[1]))
    os.setuid(int(sys.argv[1]))
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # dumpable, as a process is that did not change its user
leave_networks()
assert not connected()
assert (os.getuid(), os.geteuid()) == (int(sys.argv[1]),) * 2
with socket.create_server(("", 0)) as server:
    port = server.getsockname()[1]
    socket.create_connection(("127.0.0.1", port)).close()
    print(port, flush=True)
    sys.stdin.read()
"""
_USERS = [os.getuid()] + ([65534] if os.getuid() == 0 else [])


@pytest.mark.parametrize("user", _USERS)
def test_nobody_else_connects(user: int) -> None:
    """Neither by loopback nor by another address; processes within reach each other."""
    command = [sys.executable, "-c", _INSIDE, str(user)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        addresses = {"127.0.0.1", *(info[4][0] for info in socket.getaddrinfo(socket.gethostname(), port))}
        for address in addresses:
            with pytest.raises(OSError, match=r"refused|unreachable"):
                socket.create_connection((str(address), port), timeout=1)
        process.communicate()
    assert process.returncode == 0


def test_without_such_a_network_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_network, "connected", lambda: True)
    monkeypatch.setattr(private_network, "_call_unshare", lambda _: False)
    with pytest.raises(SettingError, match="train in a container, for a plain `docker run` with --network none"):
        private_network.leave_networks()


def test_a_network_that_is_not_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_network, "connected", lambda: True)
    monkeypatch.setattr(private_network, "_unshare", lambda: None)
    monkeypatch.setattr(private_network, "_switch_on", lambda _: None)
    with pytest.raises(SettingError, match="other interfaces"):
        private_network.leave_networks()


def test_this_machine_is_connected() -> None:
    """So that the first test shows something; a machine without any network has nothing to lose."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asked:
        try:
            asked.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no network")
    assert private_network.connected()
