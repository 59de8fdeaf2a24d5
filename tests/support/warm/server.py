"""Has TensorFlow and Keras imported, and forks a training for each request: `server.py SOCKET CONTROLLER`.

Run by the Python of a locked environment. It imports nothing of samebits, and opens no device of TensorFlow's.
"""

import hashlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict
from typing import Any


class Server:
    """Children by the descriptor that tells of their end, each with the line to its client."""

    def __init__(self, path: str, controller: int) -> None:
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listening.bind(f"{path}.draft")
        self._listening.listen(16)
        os.rename(f"{path}.draft", path)
        self._controller = os.pidfd_open(controller)
        self._children: dict[int, tuple[int, socket.socket]] = {}

    def serve(self) -> dict[str, Any]:
        """Returns in a forked child alone, with what it is to become."""
        while True:
            lines = {line.fileno(): end for end, (_, line) in self._children.items()}
            listening = self._listening.fileno()
            ready, _, _ = select.select([listening, self._controller, *self._children, *lines], [], [])
            if self._controller in ready:
                self._end()
            for item in ready:
                if item == listening:
                    request = self._accept()
                    if request is not None:
                        return request
                elif item in self._children:
                    self._ended(item)
                elif lines[item] in self._children:
                    self._told(*self._children[lines[item]])

    def _accept(self) -> dict[str, Any] | None:
        line, _ = self._listening.accept()
        content, descriptors, _, _ = socket.recv_fds(line, 1 << 18, 3)
        if len(descriptors) != 3:
            line.close()
            return None
        process = os.fork()
        if process == 0:
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
            for ours in (self._listening, line, *(other for _, other in self._children.values())):
                ours.close()
            for number in (self._controller, *self._children, *descriptors):
                os.close(number)
            request: dict[str, Any] = json.loads(content)
            return request
        for descriptor in descriptors:
            os.close(descriptor)
        self._children[os.pidfd_open(process)] = process, line
        return None

    def _ended(self, end: int) -> None:
        process, line = self._children.pop(end)
        os.close(end)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        with suppress(OSError):
            line.send(str(status).encode())
        line.close()

    def _told(self, process: int, line: socket.socket) -> None:
        """A signal to pass on; where the client is gone, so is the process that it stood for."""
        try:
            word = line.recv(64)
        except OSError:
            word = b""
        os.kill(process, int(word) if word else signal.SIGKILL)

    def _end(self) -> None:
        for process, _ in self._children.values():
            os.kill(process, signal.SIGKILL)
        os._exit(0)


def become(request: dict[str, Any], set_by_imports: dict[str, str]) -> None:
    """What an interpreter that was just started would be."""
    import numpy as np

    os.setpgid(0, 0)
    os.chdir(request["folder"])
    os.umask(request["umask"])
    variables = request["environment"] | set_by_imports
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tempfile.tempdir = None
    np.random.seed()  # Python's own generator takes a new seed by itself
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.argv = ["-m", *request["words"]]
    sys.orig_argv = [sys.executable, "-P", "-m", "samebits.runner", *request["words"]]


def share_fingerprint(folder: str) -> None:
    """Compute the machine's fingerprint once for each source: it follows from that and from this environment."""
    try:
        from samebits.runner.determinism import fingerprint
    except ImportError:  # of an earlier version, whose packages have other names
        return
    source = hashlib.sha256(fingerprint.__file__.encode()).hexdigest()[:16]
    path, real = f"{folder}/fingerprint-{source}", fingerprint.FingerprintJob

    class Shared:
        def __init__(self) -> None:
            # Read here, before the script: what it seems to read is recorded.
            self._known = None
            with suppress(FileNotFoundError), open(path) as file:
                self._known = fingerprint.Fingerprint(**json.load(file))
            self._job = None if self._known is not None else real()

        def finish(self) -> Any:
            if self._job is None:
                return self._known
            found = self._job.finish()
            with open(f"{path}.{os.getpid()}", "w") as file:
                json.dump(asdict(found), file)
            os.rename(file.name, path)
            return found

    setattr(fingerprint, "FingerprintJob", Shared)  # noqa: B010


if __name__ == "__main__":
    before = dict(os.environ)
    import h5py  # noqa: F401
    import keras  # noqa: F401
    import tensorflow as tf  # noqa: F401

    changed = {name: value for name, value in os.environ.items() if before.get(name) != value}
    path, controller = sys.argv[1:]
    become(Server(path, int(controller)).serve(), changed)
    share_fingerprint(os.path.dirname(path))
    runpy._run_module_as_main("samebits.runner")  # type: ignore[attr-defined]  # as `python -m` does
