"""The proof's frame: steps that fail, take too long or find a difference, and a report that is always there."""

import ctypes.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samebits.core.gpu_info import GpuReport, read_gpus
from samebits.host.image.build_context import GPU
from support.gpu_kit import prove, steps, trainings
from support.nvml import played_nvml

_STEP = steps.STEPS[0]


def _options(tmp_path: Path, **changes: Any) -> Any:
    options, _ = prove._parse(["--out", str(tmp_path / "proof.json"), "--work", str(tmp_path), "--dry-run"])
    return replace(options, **changes)


def _main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *names: str, budget: float = 60, **found: Any) -> Any:
    """A proof whose steps answer at once."""

    def run_apart(_options: Any, step: Any, _left: float) -> dict[str, Any]:
        answer: dict[str, Any] = {"question": step.question, "outcome": "done", "error": None, "seconds": 1.0}
        return answer | dict(found.get(step.name, {"found": {"equal": True}}))

    monkeypatch.setattr(prove, "_run_apart", run_apart)
    out = tmp_path / "proof.json"
    asked = ["--out", str(out), "--work", str(tmp_path), "--dry-run", "--steps", ",".join(names)]
    status = prove.main([*asked, "--budget", str(budget)])
    return status, dict(json.loads(out.read_text()))


def test_the_report_of_a_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, report = _main(tmp_path, monkeypatch, "digits", "portable")
    assert status == 0
    assert report["dry_run"] is True
    assert report["gpu"]["reason"] == "a dry run was asked for"
    assert list(report["steps"]) == ["digits", "portable"]
    assert "digits        done         equal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        ({"found": {"equal": False}}, "DIFFERENT"),
        ({"found": {"equal": None}}, "no result"),
        ({"outcome": "failed", "error": "it broke"}, "it broke"),
        ({"outcome": "out of time", "error": "it took longer than 1 s"}, "it took longer than 1 s"),
    ],
)
def test_a_step_that_does_not_hold(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: dict[str, Any],
    note: str,
) -> None:
    """The others go on."""
    status, report = _main(tmp_path, monkeypatch, "digits", "portable", digits=answer)
    assert status == 1
    assert report["steps"]["portable"]["outcome"] == "done"
    assert note in capsys.readouterr().out


def test_what_no_time_is_left_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, report = _main(tmp_path, monkeypatch, "digits", budget=1)
    assert (status, report["steps"]["digits"]["outcome"]) == (1, "skipped")


def test_an_unknown_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        prove.main(["--out", str(tmp_path / "p.json"), "--steps", "digits,nothing"])
    assert caught.value.code == 2
    assert "unknown steps: nothing; choose from: sees, digits" in capsys.readouterr().err


def test_a_step_runs_apart_and_its_answer_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(trainings.ROOT / "src"))
    monkeypatch.chdir(trainings.ROOT)
    (portable,) = (step for step in steps.STEPS if step.name == "portable")
    found = prove._run_apart(_options(tmp_path), portable, 60)
    assert found["outcome"] == "done"
    assert found["found"]["refused"] == "the portable profile is for CPUs; drop --gpus, or use the native profile"


def test_a_step_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen

    def sleep(_command: list[str], **options: Any) -> Any:
        return popen(["sleep", "60"], **options)

    monkeypatch.setattr(subprocess, "Popen", sleep)
    found = prove._run_apart(_options(tmp_path), _STEP, 0.2)
    assert (found["outcome"], found["error"]) == ("out of time", "it took longer than 0 s")
    assert found["seconds"] < 30


def test_a_step_that_raises_is_reported(tmp_path: Path) -> None:
    def raises(_place: Any) -> dict[str, Any]:
        raise RuntimeError("no device")

    options = _options(tmp_path)
    assert prove._run_here(options, replace(_STEP, run=raises)) == 1
    answer = json.loads(options.out.read_text())
    assert (answer["outcome"], answer["error"]) == ("failed", "no device")
    assert "RuntimeError: no device" in answer["traceback"]


def test_a_report_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "LARGEST", 100)
    prove._write(tmp_path / "a.json", {"found": "x" * 200})
    assert json.loads((tmp_path / "a.json").read_text())["error"].endswith("bytes; run fewer steps")


def test_what_a_process_on_a_gpu_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's folder is named only where the system does not find it by itself."""
    monkeypatch.setattr(ctypes.util, "find_library", lambda _name: "libcuda.so.1")
    found = prove.gpu_variables(tmp_path)
    assert found == {"CUDA_CACHE_PATH": str(tmp_path / "cuda-cache"), "CUDA_CACHE_MAXSIZE": "4294967296"}
    monkeypatch.setattr(ctypes.util, "find_library", lambda _name: None)
    (tmp_path / "libcuda.so.1").touch()
    assert prove.gpu_variables(tmp_path, f"/nowhere:{tmp_path}")["LD_LIBRARY_PATH"] == str(tmp_path)


def _h100(monkeypatch: pytest.MonkeyPatch) -> GpuReport:
    monkeypatch.setitem(sys.modules, "pynvml", played_nvml("h100").module)
    return read_gpus()


def test_a_run_is_planned_for_the_recorded_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = trainings.Place(python=Path(sys.executable), folder=tmp_path, gpus=_h100(monkeypatch))
    spec = place.spec(steps.FAMILIES, "layers")
    assert spec.gpus == "1"
    assert spec.variables["NVIDIA_TF32_OVERRIDE"] == "0"
    setup = place.runtime.setup
    assert (setup.device.model, setup.device.compute_capability) == ("NVIDIA H100 80GB HBM3", "9.0")
    assert setup.image.lock == place.kind.lock_digest
    cpu = trainings.Place(python=Path(sys.executable), folder=tmp_path)
    assert cpu.spec(steps.FAMILIES).gpus is None
    assert cpu.runtime.setup.device.kind == "cpu"


def test_an_environment_of_another_lock() -> None:
    assert trainings.kind_of(GPU.lock_digest.hex) == GPU
    with pytest.raises(ValueError, match=r"^the environment was made from another lock than this checkout's"):
        trainings.kind_of("0" * 64)
