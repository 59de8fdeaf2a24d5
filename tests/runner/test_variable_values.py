"""Variables read at once have the values of those read one by one."""

import json
import subprocess

import pytest

from samebits.host.launch.venv import locked_python
from support.command import SCRIPTS


@pytest.mark.usefixtures("locked")
def test_read_at_once() -> None:
    words = [str(locked_python()), str(SCRIPTS / "variable_values.py")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=300)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == []
    assert found["number"] > 15
    assert found["digests"] == [found["expected"]] * 2
