"""The line that ties this process to its launcher."""

import os
import subprocess
import sys

STOP_SECONDS = 10.0  # seconds between the launcher's end and ours


def tie_to_launcher() -> None:
    """End this process when the launcher, which holds the other end of our standard input, is gone.

    The script gets an empty standard input. First comes SIGTERM, so that the record is sealed; after a while the end. A
    process of its own sees to it, as a script may hold the interpreter's lock for as long as it likes.
    """
    ourselves = os.pidfd_open(os.getpid())  # a number could be another process's by then
    subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _WATCHER, str(ourselves), str(STOP_SECONDS)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[ourselves],
        start_new_session=True,
    )
    os.close(ourselves)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)


_WATCHER = """
import os, select, signal, sys
process, grace = int(sys.argv[1]), float(sys.argv[2])
while select.select([0, process], [], [])[0] != [process]:
    if not os.read(0, 1024):
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], grace)[0]:
            signal.pidfd_send_signal(process, signal.SIGKILL)
        break
"""
