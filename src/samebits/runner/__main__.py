"""`python -P -m samebits.runner`: the entrypoint of image and virtual environment."""

import atexit
import os
import sys
from contextlib import suppress

_process, _status = 0, 1


def _leave() -> None:
    """End the process without tearing the interpreter down.

    A tf.data iterator that is freed there waits for Python functions in its pipeline, which wait for the interpreter.
    """
    # A process that the script forked ends as the script wants.
    if os.getpid() == _process:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(_status)


# Handlers run in reverse order: this one after all of the script's and the libraries'.
atexit.register(_leave)

try:
    from samebits.runner.entrypoint import main

    _status = main()
    sys.exit(_status)
except KeyboardInterrupt:  # before there was a record to finalize
    _status = 130
    sys.exit(_status)
finally:
    # Known only now: the training is a child of the process that was started (see `launcher_watch`).
    _process = os.getpid()
