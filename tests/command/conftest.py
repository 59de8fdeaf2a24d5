"""A cluster for the tests of Slurm, and Podman for its nodes."""

import subprocess
from collections.abc import Iterator

import pytest

from samebits.host.image.build_context import CPU
from support.cluster_jobs import SLOW_SCRIPT
from support.command import COMMAND, ROOT, Project
from support.slurm_cluster import Cluster


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of its own."""
    state, tool = tmp_path_factory.mktemp("slurm"), str(ROOT / "tools" / "slurm.sh")
    done = subprocess.run([tool, "up", state], capture_output=True, text=True, check=False)
    if done.returncode:
        subprocess.run([tool, "down", state], check=False)
        pytest.skip(done.stderr)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(state / "slurm.conf"))
        yield Cluster(state)
    subprocess.run([tool, "down", state], check=True)


@pytest.fixture
def small(slurm: Cluster, project: Project) -> Project:
    assert slurm("sinfo", "-h", "-o", "%D") == "3"
    project.write(SLOW_SCRIPT)
    return project


@pytest.fixture(scope="session")
def podman(slurm: Cluster, engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Podman with a store of its own, and the image in a registry: its name by digest."""
    assert slurm.state.is_dir()
    assert engine
    state, tool = tmp_path_factory.mktemp("podman"), str(ROOT / "tools" / "podman.sh")
    done = subprocess.run([tool, "up", state], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(done.stderr)
    assert subprocess.run([*COMMAND, "build"], check=False).returncode == 0
    with pytest.MonkeyPatch.context() as patch:
        for name in ("containers", "storage", "registries"):
            variable = "CONTAINERS_CONF" if name == "containers" else f"CONTAINERS_{name.upper()}_CONF"
            patch.setenv(variable, str(state / f"{name}.conf"))
        pushed = subprocess.run([tool, "push", CPU.tag, state], check=True, capture_output=True, text=True)
        name = pushed.stdout.strip()
        subprocess.run(["docker", "pull", "--quiet", name], check=True)
        yield name
        subprocess.run(["docker", "rmi", name], check=False)
    subprocess.run([tool, "down", state], check=True)
