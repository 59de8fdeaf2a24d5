"""What needs a GPU: `make test-gpu`, on a machine with NVIDIA's driver and container toolkit."""

import shutil
from pathlib import Path

import pytest

from samebits.core.record import read_record
from support.command import ROOT, Project

pytestmark = pytest.mark.gpu

FAMILIES = ["layers", "optimizers", "losses", "applications"]
_MULTIPROCESSORS = {"NVIDIA H200": 132, "NVIDIA H100 80GB HBM3": 132, "NVIDIA L4": 58}  # NVIDIA's data sheets


@pytest.mark.parametrize("family", [*FAMILIES, "digits"])
def test_two_trainings_on_a_gpu_agree(in_docker: Project, family: str) -> None:
    if family == "digits":
        shutil.copy(ROOT / "examples" / "digits" / "train.py", in_docker.script)
        shutil.rmtree(in_docker.data)
        shutil.copytree(ROOT / "examples" / "digits" / "data", in_docker.data)
        arguments = ["--epochs", "5"]
    else:
        shutil.copy(ROOT / "examples" / "families" / "train.py", in_docker.script)
        arguments = [family]
    first, second = (in_docker.train("--gpus", "1", "--", *arguments) for _ in range(2))
    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert first.line("result") == second.line("result")
    _check_record(in_docker.folder / first.run)


def _check_record(run: Path) -> None:
    """The record names the GPU, and every setting took effect."""
    record = read_record(run / "record.json")
    device, seen = record.recipe.device, record.environment.system
    assert seen is not None
    assert device.kind == "gpu"
    assert device.model == seen.gpu.gpus[0].name
    assert device.compute_capability
    for gpu in seen.gpu.gpus:
        assert gpu.multiprocessors == _MULTIPROCESSORS.get(gpu.name, gpu.multiprocessors or "some")
    assert seen.gpu.driver
    assert seen.cuda_built_for
    assert seen.distributions["nvidia-cudnn-cu12"]
    assert {item.name: item.found for item in record.environment.settings or ()}["TF32"] == "False"


def test_more_gpus_than_there_are(in_docker: Project) -> None:
    done = in_docker.train("--gpus", "64")
    assert (done.status, done.out) == (2, "")
    assert done.complaint.startswith("the run needs 64 GPUs, but only ")
    assert not in_docker.runs.exists()
