"""Jobs on Kubernetes without one: a user who can submit, a cluster that takes all, and pods that are this process."""

import os
import shutil
from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.core.environment import Environment, RunImage
from samebits.core.jsonio import Fields, read_json
from samebits.core.recipe import ImageIdentity
from samebits.core.run_config import make_config
from samebits.core.run_setup import RunSetup
from samebits.host.cluster import node, pod_submission
from samebits.host.cluster.job_dir import JobDir
from samebits.host.cluster.node import Node
from samebits.host.cluster.pod_submission import prepare_pods
from samebits.host.cluster.submission import submit
from samebits.host.image.build_context import staged_context
from samebits.host.launch import pod as pod_runtime
from samebits.host.launch.runtime import Runtime
from samebits.host.launch.venv import ProcessRequest
from samebits.host.subprocesses import INHERITED, Streams
from support.fake_kubectl import Kubectl
from support.fake_runner import Played

IMAGE = f"sha256:{'a' * 64}"
CONFIG = Digest.of_bytes(b"config")
OWNER = f"{os.getuid() or 1000}:{os.getgid() or 1000}"
NODE = Node(job="", name="n1")


def settings(folder: Path, text: str) -> Path:
    """Write the user's own file."""
    path = folder / "config" / "samebits" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[on.kubernetes]\n{text}")
    return path


@pytest.fixture
def cluster(played: Played, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kubectl:
    """A user with a volume, an image in the engine, and a fake cluster; pods have that image."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    settings(tmp_path, f'user = "{OWNER}"\nhost-paths = ["{played.project.folder}"]\n')
    played.project.runs.mkdir()
    played.project.runs.chmod(0o777)
    image = RunImage(reference=f"samebits@{IMAGE}", id=IMAGE)
    values = Fields(read_json(staged_context() / "image.json"))
    lock, source = (Digest.parse(values.get(name, str)) for name in ("lock", "source"))
    setup = RunSetup(
        image=ImageIdentity(lock=lock, source=source, config=CONFIG),
        environment=Environment(runtime="docker", image=image),
    )
    runtime = Runtime(setup=setup, prepare=lambda: None, run=lambda *_: 9, query=lambda *_: (9, ""))
    monkeypatch.setattr("samebits.host.cluster.submission.choose_runtime", lambda _: runtime)
    in_a_pod(played, monkeypatch, tmp_path)
    # Copying the whole of samebits would take most of the time.
    (tmp_path / "samebits" / "__pycache__").mkdir(parents=True)
    (tmp_path / "samebits" / "__init__.py").touch()
    monkeypatch.setattr(pod_submission, "PACKAGE", tmp_path / "samebits")
    return kubectl


def submitted(**values: object) -> JobDir:
    """A job of the played project that was submitted."""
    prepared = prepare_pods(make_config({"script": Path("train.py"), "data": Path("data"), **values}))
    return submit(prepared.planned, prepared.job, prepared.complete)


def in_a_pod(played: Played, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """An image around this process, whose runner is played."""
    (folder / "recipe").mkdir()
    shutil.copyfile(staged_context() / "image.json", folder / "recipe" / "image.json")
    monkeypatch.setattr(pod_runtime, "RECIPE", folder / "recipe")
    monkeypatch.setattr(pod_runtime, "path_in_container", lambda run: run.path.absolute())

    def run_process(request: ProcessRequest, _: Streams = INHERITED) -> int:
        return played.player(request.command[4:], request.environment)

    monkeypatch.setattr(pod_runtime, "run_process", run_process)
    monkeypatch.setattr(node, "POLL_SECONDS", 0.01)
    monkeypatch.setattr("samebits.host.cluster.kubernetes_jobs.PATIENCE_SECONDS", 0.1)
