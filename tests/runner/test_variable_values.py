"""Variables read at once have the values of those read one by one."""

import json
import os
import subprocess

import pytest

from samebits.host.launch.venv import locked_python
from support.command import ROOT, SCRIPTS


@pytest.mark.usefixtures("locked")
def test_read_at_once() -> None:
    words = [str(locked_python()), str(SCRIPTS / "variable_values.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=300)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == []
    assert found["number"] > 15
    assert found["digests"] == [found["expected"]] * 2
