"""What a launcher asks for before anything runs: the container of a run, and an environment that contradicts."""

import os
import re
from pathlib import Path

import pytest

from samebits.core.errors import InputError, SettingError
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.host.docker import Image
from samebits.host.launch.container_plan import plan_container, plan_worker
from samebits.host.launch.runtime import choose_runtime
from samebits.host.launch.train import train

_IMAGE = Image(reference="samebits:cpu", id="sha256:0", labels={})


def test_a_runs_container(tmp_path: Path) -> None:
    """Code and data are read-only, the run's folder is not, and nothing else is mounted."""
    run = RunDir(tmp_path / "runs" / "1")
    spec = RunConfig(script=run.code / "train.py", data=tmp_path / "data")
    request = plan_container(run, spec, _IMAGE)
    assert request.mounts == (
        (run.path, "/runs/1", False),
        (run.code, "/runs/1/code", True),
        (tmp_path / "data", "/data", True),
    )
    assert request.user == f"{os.getuid()}:{os.getgid()}"
    assert request.command == ("--run", "/runs/1")
    assert request.environment == {**spec.variables, "SAMEBITS_DATA": "/data"}


def test_without_data_nothing_more_is_mounted(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "runs" / "1")
    request = plan_container(run, RunConfig(script=run.code / "train.py"), _IMAGE)
    assert [target for _, target, _ in request.mounts] == ["/runs/1", "/runs/1/code"]
    assert "SAMEBITS_DATA" not in request.environment


def test_one_worker_of_a_run_that_another_node_has_begun(tmp_path: Path) -> None:
    """It sees the folder of the run's container, and its own launcher's socket, where it can write nothing."""
    run = RunDir(tmp_path / "runs" / "1")
    run.staging.mkdir(parents=True)
    request = plan_worker(run, RunConfig(script=run.code / "train.py"), _IMAGE, 2, tmp_path / "sockets")
    assert request.mounts == (
        (run.staging, "/runs/1", False),
        (run.code, "/runs/1/code", True),
        (tmp_path / "sockets", "/runs/1/tunnel", True),
    )
    assert (request.command, request.network, request.watches) == (("--worker", "/runs/1", "2"), "none", True)


def test_a_worker_of_a_run_that_has_ended(tmp_path: Path) -> None:
    """Its whole folder must not be writable instead."""
    run = RunDir(tmp_path / "runs" / "1")
    with pytest.raises(InputError, match=r"^the run 1 has no folder for its workers: it has ended$"):
        plan_worker(run, RunConfig(script=run.code / "train.py"), _IMAGE, 2, tmp_path)


def test_the_callers_own_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever calls, and never root for that reason alone."""
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    monkeypatch.setattr(os, "getgid", lambda: 1235)
    run = RunDir(tmp_path / "1")
    assert plan_container(run, RunConfig(script=run.code / "train.py"), _IMAGE).user == "1234:1235"


def test_an_environment_that_contradicts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user may believe that it takes effect."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "8")
    with pytest.raises(SettingError, match="OPENBLAS_NUM_THREADS=8"):
        choose_runtime(RunConfig(script=Path("train.py"), runtime="venv"))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("train.py", None, "the script {script} does not exist"),
        ("data.csv", b"a,b\n", "the script {script} is neither a Python file"),
        ("a.ipynb", b"{}", "the notebook {script} cannot be read"),
        ("train.py", b"", "the data folder {data} does not exist"),
    ],
)
def test_what_cannot_run_builds_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | None, complaint: str
) -> None:
    monkeypatch.setattr("samebits.host.launch.train.choose_runtime", lambda _: pytest.fail("a runtime was chosen"))
    script, data = tmp_path / name, tmp_path / "no data"
    if content is not None:
        script.write_bytes(content)
    with pytest.raises(InputError, match=f"^{re.escape(complaint.format(script=script, data=data))}"):
        train(RunConfig(script=script, data=data))
