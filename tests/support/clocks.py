"""Another time of day."""

import time
from datetime import datetime

import pytest


def at_time(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Set the clock to a time in ISO 8601, for what asks the module `time`."""
    moment = datetime.fromisoformat(text).timestamp()
    monkeypatch.setattr(time, "time", lambda: moment)
    monkeypatch.setattr(time, "time_ns", lambda: int(moment * 1e9))
