"""samebits installed from its wheel, away from any checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.command import ROOT

pytestmark = [pytest.mark.cold, pytest.mark.slow]

SCRIPT = """
import keras, numpy as np, tqdm
rows = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("adam", "mse")
for _ in tqdm.tqdm(range(1)):
    model.fit(rows[:, :3], rows[:, 3], epochs=2, verbose=0)
"""


def run(*words: str | Path, folder: Path) -> str:
    """Run a program without this checkout on the import path."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, words)], cwd=folder, env=variables, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(1800)
def test_it_needs_no_checkout(locked: None, tmp_path: Path) -> None:
    assert locked is None
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*wheel, "--wheel-dir", tmp_path, ROOT, folder=tmp_path)
    run(sys.executable, "-m", "venv", tmp_path / "venv", folder=tmp_path)
    (made,) = tmp_path.glob("*.whl")
    run(tmp_path / "venv" / "bin" / "pip", "install", "--quiet", made, folder=tmp_path)
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text(SCRIPT)
    samebits = tmp_path / "venv" / "bin" / "samebits"
    assert "wrote requirements.in: tqdm" in run(samebits, "init", folder=project)
    run(samebits, "lock", folder=project)
    assert "result sha256:" in run(samebits, "train", "--runtime", "venv", "train.py", folder=project)
    assert run(samebits, "verify", "last", folder=project).splitlines()[-1] == "identical: 1 model"
    assert "report" in run(samebits, "report", "last", "-o", "report.html", folder=project)
