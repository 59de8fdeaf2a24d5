"""Ends this process if its launcher is gone."""

import os
import subprocess
import sys

GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL, when the launcher is gone


def tie_to_launcher() -> None:
    """End this process when the launcher, which holds the other end of our standard input, is gone.

    First comes SIGTERM, so that the record is finalized, then SIGKILL. The script gets an empty standard input.
    """
    # A descriptor, as the number could belong to another process by then.
    ourselves = os.pidfd_open(os.getpid())
    # A separate process, as a script may hold the interpreter's lock for any time.
    subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _WATCHER, str(ourselves), str(GRACE_SECONDS)],
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
