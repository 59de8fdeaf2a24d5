"""The whole proof of `tools/gpu` as a dry run: every step on the CPU, up to the first call of CUDA."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from samebits.host.image.build_context import CPU
from samebits.host.launch.venv import locked_python
from support.command import ROOT

pytestmark = pytest.mark.slow  # some thirty trainings


@pytest.fixture(scope="module")
def proof(locked: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:  # noqa: ARG001
    """The report of a dry run in the locked environment for CPUs, which serves as the one that `join` makes."""
    kit = tmp_path_factory.mktemp("kit")
    (kit / "venv").symlink_to(locked_python().parents[1])
    (kit / "complete").write_text(json.dumps({"lock": CPU.lock_digest.hex}))
    command = [sys.executable, "-m", "tools.gpu.prove", "--python", str(kit / "venv" / "bin" / "python")]
    command += ["--out", str(kit / "proof.json"), "--work", str(kit / "work"), "--patience", "20", "--budget", "1700"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=1790)
    return dict(json.loads((kit / "proof.json").read_text()))


def test_every_step_is_done_as_far_as_a_cpu_goes(proof: dict[str, Any]) -> None:
    assert proof["dry_run"] is True
    outcomes = {name: (step["outcome"], step["found"].get("equal", True)) for name, step in proof["steps"].items()}
    assert set(outcomes.values()) == {("done", True)}, outcomes
    assert "libcuda.so.1" in proof["steps"]["sees"]["found"]["first_cuda_call"]


def test_what_the_steps_found(proof: dict[str, Any]) -> None:
    found = {name: step["found"] for name, step in proof["steps"].items()}
    assert found["raising"]["unlike_the_table"] == []
    assert all(item["raised"] is not None for item in found["raising"]["operations"].values())
    assert found["resume"]["reproduced"] is True
    assert found["resume"]["runs"]["killed"]["outcome"] == "interrupted"
    assert len(found["fingerprint"]["operations"]) > 90
    assert found["comparable"] == {"here": []}
    assert all(None not in seconds for seconds in found["cost"]["seconds_per_step"].values())
