"""A signal that was lost ends the command all the same."""

import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import Terminated
from samebits.host.cli.parser import guarded
from samebits.host.interrupts import catch_signals, forget_pending, raise_pending


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    catch_signals()
    yield
    forget_pending()
    for number, handler in before.items():
        signal.signal(number, handler)


def _lose(number: int) -> None:
    with suppress(KeyboardInterrupt, Terminated):
        signal.raise_signal(number)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_lost_signal_is_raised_again(number: int, error: type[BaseException]) -> None:
    raise_pending()
    _lose(number)
    with pytest.raises(error):
        raise_pending()


def test_a_sigterm_that_comes_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """`timeout` sends it to the process and to its group; the second one would cost the run its checkpoint."""
    _lose(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 2)
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)


def test_a_ctrl_c_that_comes_twice_is_two() -> None:
    _lose(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_is_lost_before_the_command(number: int, status: int) -> None:
    _lose(number)
    assert guarded(lambda: 0) == status
    assert guarded(lambda: 0) == 0  # it ended one command, not the next


def test_a_signal_that_a_library_turns_into_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        _lose(signal.SIGTERM)
        raise ImportError("of an extension module")

    assert guarded(command) == 143
    assert capsys.readouterr().err == ""


def test_an_error_of_samebits_after_a_signal_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """As while it finalizes a record: then the record stays as it is, and the user must learn of it."""

    def command() -> int:
        _lose(signal.SIGINT)
        Digest.of_bytes("text")  # type: ignore[arg-type]
        return 0

    assert guarded(command) == 130
    assert "a defect of samebits itself; please report it" in capsys.readouterr().err


def test_ctrl_c_that_the_shell_ignores_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    catch_signals()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
