"""Run one container to its end: copy its output, pass signals on, return its exit status."""

import signal
import sys
import threading
from contextlib import suppress

from samebits.core.errors import EngineError, Terminated
from samebits.host.console import log
from samebits.host.container_request import ContainerRequest
from samebits.host.docker import Container, ContainerStartError, Engine
from samebits.host.interrupts import raise_pending
from samebits.host.subprocesses import FINALIZE_SECONDS, INHERITED, Streams

# How often a container is started if the runtime fails before the script runs.
_START_ATTEMPTS = 3


def run_container(engine: Engine, request: ContainerRequest, streams: Streams = INHERITED) -> int:
    """Run a container to its end and return its exit status.

    Ctrl-C and SIGTERM are passed on, and raised again once the container has ended. Raises EngineError if it cannot be
    started, or the engine goes away.
    """
    # Only a start that failed before the user's code ran is retried: nothing is ever trained twice.
    for _ in range(_START_ATTEMPTS - 1):
        with suppress(ContainerStartError):
            return _run_once(engine, request, streams)
        log("the container runtime lost its first process; starting the container again")
    return _run_once(engine, request, streams)


def _run_once(engine: Engine, request: ContainerRequest, streams: Streams) -> int:
    with engine.container(request) as container:
        raise_pending()
        container.start()
        try:
            raise_pending()
            _copy_output(container, streams)
        except (KeyboardInterrupt, Terminated) as stop:
            # The engine does not pass a terminal's Ctrl-C to the container, so it is done here.
            log("stopping; the record is being finalized")
            _stop(container, streams, signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM)
            raise
        return container.exit_status()


def _stop(container: Container, streams: Streams, signal_number: int) -> None:
    """Pass a signal on and keep copying output; kill after FINALIZE_SECONDS, or on a second Ctrl-C."""
    # A timer, because copying output blocks until the container ends.
    killer = threading.Timer(FINALIZE_SECONDS, _kill, (container,))
    killer.daemon = True
    killer.start()
    # Whatever cuts this short, the container is removed when `Engine.container` ends.
    with suppress(KeyboardInterrupt, Terminated, EngineError):
        container.kill(signal_number)
        _copy_output(container, streams)
    killer.cancel()


def _kill(container: Container) -> None:
    with suppress(EngineError):
        container.kill(signal.SIGKILL)


def _copy_output(container: Container, streams: Streams) -> None:
    """Copy stdout and stderr as they come."""
    broken = set()
    for is_stderr, chunk in container.output():
        target = (streams.err or sys.stderr.buffer) if is_stderr else (streams.out or sys.stdout.buffer)
        if target in broken:
            continue
        # A reader that went away (`samebits train | head`) must not end the training.
        try:
            target.write(chunk)
            target.flush()
        except BrokenPipeError:
            broken.add(target)
