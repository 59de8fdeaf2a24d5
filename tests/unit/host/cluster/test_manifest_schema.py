"""The manifests against Kubernetes's own schemas, by `kubernetes-validate --strict` (tools/manifests.sh)."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samebits.host.cluster.manifest import Folder, PodPlan, manifest
from samebits.host.cluster.pod_settings import PodSettings
from support.command import ROOT

pytestmark = pytest.mark.slow

_VALIDATE = ROOT / ".venv-manifests" / "bin" / "kubernetes-validate"
_SERVERS = ("v1.25.0", "v1.26.0", "v1.29.0", "v1.37.0")

Validate = Callable[[str, dict[str, Any]], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def validate(tmp_path_factory: pytest.TempPathFactory) -> Validate:
    """Check a manifest against the schemas of a version."""
    subprocess.run([ROOT / "tools" / "manifests.sh"], check=True, timeout=600)

    def call(server: str, value: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        path = tmp_path_factory.mktemp("manifest") / "manifest.json"
        path.write_text(json.dumps(value))
        version = server.removeprefix("v").rpartition(".")[0]
        words = [str(_VALIDATE), "--strict", f"--kubernetes-version={version}", str(path)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    return call


def made(server: str, folder: Path, workers: int = 1) -> dict[str, Any]:
    """A manifest with everything in it."""
    settings = PodSettings(
        namespace="lab",
        queue="fast",
        cpu="4",
        memory="8Gi",
        node_labels={"kubernetes.io/arch": "amd64"},
        claims={folder: "shared"},
        host_paths=(folder / "data",),
        pull_secret="registry",
        user="1000:1000",
    )
    folders: tuple[Folder, ...] = (Folder(here=folder / "runs", inside=Path("/runs"), writable=True),)
    folders += (Folder(here=folder / "data", inside=Path("/data")),)
    plan = PodPlan(
        name="samebits-x",
        namespace="lab",
        image=f"registry/samebits@sha256:{'0' * 64}",
        job=folder / "runs" / "jobs" / "job-x",
        folders=folders,
        recipe=f"sha256:{'1' * 64}",
        server=server,
        home="/home/me",
        gpus="1" if workers == 1 else None,
        workers=workers,
        settings=settings,
    )
    return manifest(plan)


@pytest.mark.parametrize("server", _SERVERS)
def test_valid(validate: Validate, server: str, tmp_path: Path) -> None:
    done = validate(server, made(server, tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("server", ["v1.26.0", "v1.29.0", "v1.37.0"])
def test_an_indexed_job(validate: Validate, server: str, tmp_path: Path) -> None:
    value = made(server, tmp_path, workers=3)
    assert value["spec"]["completionMode"] == "Indexed"
    done = validate(server, value)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "path",
    [
        ("spec", "backoffLimit"),
        ("spec", "podFailurePolicy"),
        ("spec", "completionMode"),
        ("spec", "template", "spec", "automountServiceAccountToken"),
        ("spec", "template", "spec", "securityContext", "runAsNonRoot"),
        ("spec", "template", "spec", "containers", 0, "securityContext", "readOnlyRootFilesystem"),
        ("spec", "template", "spec", "containers", 0, "volumeMounts", 1, "subPath"),
    ],
)
def test_a_misspelled_field(validate: Validate, path: tuple[Any, ...], tmp_path: Path) -> None:
    value = made("v1.29.0", tmp_path, workers=2)
    place: Any = value
    for name in path[:-1]:
        place = place[name]
    # Without --strict it would pass, and a cluster would leave it out.
    place[f"{path[-1]}s"] = place.pop(path[-1])
    done = validate("v1.29.0", value)
    assert done.returncode != 0
    assert f"{path[-1]}s" in done.stdout + done.stderr
