"""Settings that are read back before TensorFlow is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

import samebits

SOURCE = Path(samebits.__file__).parents[1]
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from samebits.core.determinism_profile import Profile
from samebits.core.errors import SettingError
from samebits.runner.compat.patches import Patches
from samebits.runner.determinism.settings import prepare_environment
try:
    prepare_environment(Profile(), Patches())
except SettingError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize(
    ("options", "seed", "obeyed"),
    [([], "0", True), (["-E"], "0", False), ([], None, False)],
    ids=["obeyed", "ignored", "absent"],
)
def test_the_hash_seed_is_read_back(options: list[str], seed: str | None, obeyed: bool) -> None:
    """From the interpreter: one that was told to ignore its environment has another."""
    command = [sys.executable, *options, "-c", PROGRAM, str(SOURCE)]
    given = {} if seed is None else {"PYTHONHASHSEED": seed}
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == obeyed, done.stderr
    assert obeyed or done.stderr.startswith("PYTHONHASHSEED=0 was not set when Python started")
