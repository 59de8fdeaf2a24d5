"""A network that nobody else reaches, for processes that obey any client.

TensorFlow's servers, by which workers find each other, listen on all interfaces and ask for no password. Who reaches
one can have it read and write files.
"""

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

from samebits.core.errors import SettingError

_CLONE_NEWUSER, _CLONE_NEWNET = 0x1000_0000, 0x4000_0000
_GET_FLAGS, _SET_FLAGS = 0x8913, 0x8914  # SIOCGIFFLAGS, SIOCSIFFLAGS
_UP = 1
_LOOPBACK = "lo"


def leave_networks() -> None:
    """Move this process, and what it starts, to a network with a loopback interface alone.

    Nothing changes where there is no other interface, as in a container without a network. Raises SettingError where
    the kernel allows no such network.
    """
    if not connected():
        return
    try:
        _unshare()
        _switch_on(_LOOPBACK)
    except OSError as error:
        raise SettingError(
            "TensorFlow's workers obey any client that reaches them over the network, and get no network of their own"
            f" ({error.strerror}); train in a container, for a plain `docker run` with --network none"
        ) from error
    if connected():
        raise SettingError("the network of the workers still has other interfaces; train in a container")


def connected() -> bool:
    """Whether this process has another interface than the loopback one that is up."""
    names = (name for _, name in socket.if_nameindex())
    return any(name != _LOOPBACK and _flags(name) & _UP for name in names)


def _unshare() -> None:
    """Enter a new network: as root at once, as anybody else in a namespace where one may."""
    user, group = os.getuid(), os.getgid()
    if _call_unshare(_CLONE_NEWNET):
        return
    if not _call_unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    # One stays who one was, so that files belong to the same user.
    for name, content in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path(f"/proc/self/{name}").write_text(content)


def _call_unshare(flags: int) -> bool:
    return bool(ctypes.CDLL(None, use_errno=True).unshare(flags) == 0)


def _flags(name: str) -> int:
    return _ask(_GET_FLAGS, name, 0)


def _switch_on(name: str) -> None:
    _ask(_SET_FLAGS, name, _flags(name) | _UP)


def _ask(request: int, name: str, flags: int) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        answer = fcntl.ioctl(asked, request, struct.pack("16sh22x", name.encode(), flags))
    return int(struct.unpack_from("16xh", answer)[0])
