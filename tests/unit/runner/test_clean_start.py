"""The image's entrypoint, run by this Python: what it refuses. `tests/engine` shows what reaches the script."""

import os
import subprocess
import sys

import pytest

from samebits.runner import clean_start


def _start(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", clean_start.__file__, *words]
    # The launcher holds the other end of the standard input, or the training ends at once.
    read, write = os.pipe()
    try:
        return subprocess.run(command, env=variables, stdin=read, capture_output=True, text=True, check=False)
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "GLIBC_TUNABLES",
        "PYTHONPATH",
        "PYTHONOPTIMIZE",
        "PYTHONMALLOC",
        "MALLOC_ARENA_MAX",
    ],
)
def test_what_changes_programs_is_refused(name: str) -> None:
    value = "/nothing/at.so" if name == "LD_PRELOAD" else "1"
    done = _start("train.py", **{name: value})
    assert done.returncode == 2
    assert done.stderr.endswith(
        f"samebits: the environment sets {name}={value}, which changes how programs run and is part of no recipe;"
        " remove it\n"
    )


def test_the_runner_follows() -> None:
    """And it is the runner that judges settings. It finds no folder of runs here."""
    others = {"PYTHON_VERSION": "3.13.1", "FOO": "1", "PYTHONOPTIMIZE": "", "TF_X": "1"}
    done = _start("train.py", "--runs", "/nowhere/runs", **others)
    assert done.returncode == 2
    assert (
        done.stderr
        == 'samebits: there is no /nowhere/runs; mount a folder for the runs: -v "$PWD/runs:/nowhere/runs"\n'
    )


def test_a_trial_may_change_the_memory_layout() -> None:
    done = _start("--run", "/nowhere", PYTHONMALLOC="malloc")
    assert "changes how programs run" not in done.stderr
    assert "/nowhere/record.json" in done.stderr
