"""A record as the committed file holds it, and one whose run has not ended."""

import json
from dataclasses import replace
from typing import Any

import pytest

from samebits.core.record import RUNNING, Outcome, Record
from samebits.core.timings import Timings
from support.command import EXAMPLE


@pytest.fixture
def value() -> dict[str, Any]:
    """The committed file's content."""
    return dict(json.loads(EXAMPLE.read_bytes()))


@pytest.fixture
def running(example: Record) -> Record:
    return replace(example, outcome=Outcome(state=RUNNING), result=None, ledger=None, timings=Timings())
