"""Free ports of this machine for the workers of one run."""

import random
import socket
from contextlib import ExitStack
from pathlib import Path

from samebits.core.errors import InputError

_FIRST = 10240
_TRIES = 100


def free_addresses(number: int, host: str = "127.0.0.1") -> list[str]:
    """Addresses of this machine that nobody listens on; `host` is its name for the other workers."""
    # Below the ports that the kernel gives to outgoing connections: one of those could be taken meanwhile.
    last = max(_first_of_kernel() - 1, _FIRST + 10_000)
    # Of the system, as two runs that start together must not get the same.
    source, found = random.SystemRandom(), []
    with ExitStack() as stack:
        for _ in range(_TRIES * number):
            taken = stack.enter_context(socket.socket())
            try:
                taken.bind(("127.0.0.1" if host == "127.0.0.1" else "", source.randint(_FIRST, last)))
            except OSError:
                continue
            found.append(f"{host}:{taken.getsockname()[1]}")
            if len(found) == number:
                return found
    raise InputError(f"the machine has no {number} free ports for the workers")


def _first_of_kernel() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return 32768
