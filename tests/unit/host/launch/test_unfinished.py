"""How a run ended whose process died before it finalized its record."""

import pytest

from samebits.core.record import FAILED, INTERRUPTED
from samebits.host.launch.train import _unfinished_outcome

_COMPILED = "in compiled code that the script uses"


@pytest.mark.parametrize(
    ("status", "state", "message"),
    [
        (-11, FAILED, f"the training process crashed with SIGSEGV (status -11), {_COMPILED}"),
        (139, FAILED, f"the training process crashed with SIGSEGV (status 139), {_COMPILED}"),
        (134, FAILED, f"the training process crashed with SIGABRT (status 134), {_COMPILED}"),
        (3, FAILED, "the training process ended with status 3 before it finalized its record"),
        (143, INTERRUPTED, "the training process was killed by SIGTERM"),
        (-9, INTERRUPTED, "the training process was killed by SIGKILL: by the system because memory ran out, or by"),
    ],
)
def test_a_signal_of_its_own_is_a_crash(status: int, state: str, message: str) -> None:
    """No result of the script, and none of its dates: so `check --run` says the same."""
    outcome = _unfinished_outcome(status)
    assert outcome.state == state
    assert (outcome.message or "").startswith(message)
