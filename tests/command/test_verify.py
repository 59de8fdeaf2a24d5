"""`verify`: the preflight, the new run, the verdict, and that the recorded run is never changed."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import samebits
from samebits.core.digest import Digest, with_checksum
from samebits.core.environment import Arithmetic, Environment
from samebits.core.errors import SamebitsError
from samebits.core.gpu_info import Gpu, GpuReport
from samebits.core.jsonio import readable_json
from samebits.core.ledger import lock_alive
from samebits.core.liveness import Host
from samebits.core.origin import VerifiedRun
from samebits.core.record import RUNNING, Outcome, Record, read_record, write_record
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import RunSetup
from samebits.host.launch.runtime import Runtime
from samebits.host.rerun import hardware, preflight
from samebits.host.rerun import verify as verifying
from samebits.host.rerun.request import RerunRequest
from samebits.host.runs.registry import checksum_of
from support.command import EXAMPLE, ROOT, SCRIPTS, Done, Project, call
from support.images import plain_run
from support.lanes import long_tail


def trained(project: Project, *options: str) -> RunDir:
    done = project.train(*options)
    assert done.status == 0, done.err
    return RunDir(project.folder / done.run)


@pytest.fixture(scope="module")
def short_twice(locked: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Path]:
    """A project with a run of one epoch, and a copy of its folder."""
    assert locked is None
    project = Project(tmp_path_factory.mktemp("short") / "project")
    project.data.mkdir(parents=True)
    shutil.copy(SCRIPTS / "fit.py", project.script)
    shutil.copy(SCRIPTS / "numbers.csv", project.data)
    trained(project, "--", "--epochs", "1")
    return project, shutil.copytree(project.folder, project.folder.with_name("copy"), symlinks=True)


@pytest.fixture
def short(short_twice: tuple[Project, Path]) -> Project:
    """The project as it was after its run, in its own place, which the record names."""
    project, copy = short_twice
    shutil.rmtree(project.folder)
    shutil.copytree(copy, project.folder, symlinks=True)
    return project


def only_run(project: Project) -> RunDir:
    return RunDir(project.runs / project.only_run().id)


def verify(project: Project, *options: str, run: str = "last", **environment: str) -> Done:
    return call("verify", run, *options, folder=project.folder, **environment)


def runs(project: Project) -> int:
    return len(list(project.runs.glob("*/record.json")))


def answer(done: Done) -> str:
    """The last line."""
    return done.out.splitlines()[-1]


def test_the_same_again(each_runtime: Project) -> None:
    run = trained(each_runtime, "--seed", "3", "--", "--epochs", "1")
    before = {path: path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file()}
    done = verify(each_runtime, run=run.path.name)
    assert (done.status, answer(done).partition(":")[0]) == (0, "identical"), done.err
    assert {path: path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file()} == before

    again = RunDir(each_runtime.folder / done.run)
    record = again.read()
    assert record.origin.verifies == VerifiedRun(id=run.path.name, checksum=checksum_of(run))
    assert record.recipe == run.read().recipe
    written = json.loads(again.verification.read_text())
    assert (written["format"], written["verdict"], written["goal"]) == ("samebits.verification", "identical", "bitwise")
    assert written["verified"]["seal"] == checksum_of(run)
    assert written["by"]["seal"] == checksum_of(again)
    assert written["by"]["result"] == written["verified"]["result"]
    assert written["seal"] == str(Digest.of_json({key: value for key, value in written.items() if key != "seal"}))
    assert not os.access(again.verification, os.W_OK) or os.geteuid() == 0
    shown = call("show", str(again.path), folder=each_runtime.folder).out
    assert re.search(rf"^verifies +{run.path.name}: identical, at the level bitwise$", shown, re.MULTILINE)


_UNSEEDED = """
import keras, numpy as np
x = np.random.default_rng().normal(size=(8, 3)).astype("float32") * 1e-3
model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(x, np.ones(8, "float32"), epochs=2, verbose=0)
"""


def test_each_level_of_a_run_that_does_not_repeat(project: Project) -> None:
    project.write(_UNSEEDED)
    trained(project)
    first = project.only_run().id
    for options, status, word in (
        ((), 1, "different"),
        (("--level", "metrics", "--rel", "0.1"), 0, "equivalent"),
        (("--level", "metrics", "--rel", "0"), 1, "different"),
        (("--level", "documented"), 0, "equivalent"),
    ):
        done = verify(project, *options, run=first)
        assert (done.status, answer(done)) == (status, word), (options, done.err)
    assert runs(project) == 5


def test_the_recorded_level_is_used(project: Project) -> None:
    project.write(_UNSEEDED)
    trained(project, "--level", "documented")
    assert answer(verify(project)) == "equivalent"


def _moved(project: Project) -> None:
    project.data.rename(project.folder / "elsewhere")


def _other_byte(project: Project) -> None:
    path = project.data / "numbers.csv"
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))


def _more_data(project: Project) -> None:
    (project.data / "more.csv").write_text("1,2,3,4\n")


def _spoiled(name: str) -> Callable[[Project], None]:
    """A byte of a file that the run keeps is changed, or one is added to its code."""

    def change(project: Project) -> None:
        (path,) = project.runs.glob(f"*/{name}")
        path.chmod(0o644)
        content = path.read_bytes()
        at = content.index(b"adam") if b"adam" in content else content.rindex(b"0")
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])

    return change


@pytest.mark.parametrize(
    ("change", "row", "reason"),
    [
        (_moved, "data", "the data folder {data} does not exist; name the folder that holds it with --data"),
        (_other_byte, "data", "not what was recorded: numbers.csv"),
        (_more_data, "data", "not what was recorded: more.csv"),
        (_spoiled("code/train.py"), "code", "not what was recorded: train.py"),
        (
            _spoiled("image/lock/requirements.lock"),
            "files",
            "image/lock/requirements.lock was changed",
        ),
        (
            _spoiled("image/source/samebits/core/digest.py"),
            "files",
            "image/source/ or image/Dockerfile was changed, image/source/samebits/core/digest.py was changed",
        ),
    ],
    ids=["data gone", "data changed", "data added", "code", "lock", "source"],
)
def test_what_cannot_be_compared(short: Project, change: Callable[[Project], None], row: str, reason: str) -> None:
    """Nothing is run, the status is 3, and the reason is printed; preflight prints the same."""
    run = only_run(short)
    change(short)
    expected = reason.format(data=short.data, run=Path("runs", run.path.name))
    done = verify(short)
    assert (done.status, answer(done)) == (3, "not comparable"), done.err
    assert f"{row}: {expected}" in done.out
    done = call("preflight", "last", "--json", folder=short.folder)
    assert done.status == 3
    assert any(text.startswith(f"{row}: {expected}") for text in json.loads(done.out)["reasons"])
    assert runs(short) == 1


def test_json_stands_alone_on_stdout(project: Project) -> None:
    project.write("print('loud')\nimport os\nopen(os.environ['SAMEBITS_OUTPUT'] + '/a', 'w').write('a')\n")
    trained(project)
    done = verify(project, "--json")
    assert (done.status, json.loads(done.out)["verdict"]) == (0, "identical")
    assert "loud" in done.err


def test_data_that_was_moved_is_named(short: Project) -> None:
    _moved(short)
    done = verify(short, "--data", "elsewhere")
    assert (done.status, answer(done).partition(":")[0]) == (0, "identical"), done.err
    assert read_record(short.folder / done.run / "record.json").origin.data == str(short.folder / "elsewhere")


def test_a_run_without_data_or_result(project: Project) -> None:
    project.write("raise ValueError('no')\n")
    done = call("train", "train.py", "--runtime", "venv", folder=project.folder)
    assert done.status == 1
    done = verify(project)
    assert (done.status, answer(done)) == (3, "not comparable")
    assert "outcome: the run has no result to reproduce" in done.out
    done = verify(project, "--data", "data")
    assert (done.status, done.out) == (2, "")
    assert done.complaint.endswith("has no data; leave --data out")


_SECOND_TIME = """
import pathlib
def again():
    %s
flag = pathlib.Path("%s")
if flag.exists():
    again()
flag.touch()
open(__import__("os").environ["SAMEBITS_OUTPUT"] + "/a", "w").write("a")
"""


def test_a_script_that_fails_the_second_time(project: Project) -> None:
    project.write(_SECOND_TIME % ("raise ValueError('again')", project.folder / "flag"))
    trained(project)
    done = verify(project)
    assert (done.status, answer(done)) == (1, "different")
    assert "has no result: failed" in done.out


def test_a_result_of_nothing(project: Project) -> None:
    """Any two runs would have it; only `documented` can be judged."""
    project.write("import os, tensorflow as tf\ntf.constant(float(os.urandom(1)[0]))\n")
    run = trained(project)
    for command in ("verify", "preflight"):
        done = call(command, "last", folder=project.folder)
        assert (done.status, answer(done)) == (3, "not comparable")
        assert "the result is empty: no Keras model was trained, and no output file" in done.out
    other = trained(project)
    done = verify(project, "--against", other.path.name, run=run.path.name)
    assert (done.status, answer(done)) == (3, "not comparable")
    assert answer(verify(project, "--level", "documented", run=run.path.name)) in {
        "identical: nothing (no Keras model)",
        "equivalent: nothing (no Keras model)",
    }


def test_a_second_training_that_was_killed(project: Project) -> None:
    """A kill is no result of the script, so there is nothing to compare."""
    project.write(_SECOND_TIME % ("import os\n    os.kill(os.getpid(), 9)", project.folder / "flag"))
    trained(project)
    done = verify(project)
    assert (done.status, answer(done)) == (3, "not comparable"), done.out + done.err
    assert "has no result: interrupted: the training process was killed by SIGKILL" in done.out
    rows = [line for line in done.out.splitlines() if line.startswith("inputs ")]
    assert rows == ["inputs environment all of it: observed -> nothing"]
    (path,) = project.runs.glob("*/verification.json")
    assert json.loads(path.read_text())["verdict"] == "not comparable"


def test_against_what_is_not_done_or_not_whole(short: Project) -> None:
    one = only_run(short)
    other = RunDir(short.runs / "other")
    shutil.copytree(one.path, other.path)
    with other.ledger.open("rb") as file:
        lines = file.read()
    other.ledger.write_bytes(lines.replace(b'"epoch":0', b'"epoch":1'))
    for pair in ((one, other), (other, one)):
        done = verify(short, "--against", str(pair[1].path), run=str(pair[0].path))
        assert (done.status, answer(done)) == (3, "not comparable")
        assert "ledger: line 1 was changed" in done.out
    other.ledger.write_bytes(lines)
    other.record.unlink()
    running = replace(one.read(), outcome=Outcome(state=RUNNING), result=None, ledger=None, host=Host.this())
    write_record(other.record, running)
    held = lock_alive(other.ledger)
    try:
        done = verify(short, "--against", str(other.path), run=str(one.path))
    finally:
        os.close(held)
    assert (done.status, answer(done)) == (3, "not comparable")
    assert done.out.splitlines()[-2].endswith("has no result: running")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--rel", "1"), "--rel and --abs are for the level metrics, and this is bitwise; add --level metrics"),
        (("--level", "metrics", "--abs", "auc=1"), "the run {id} has no metric 'auc'; there are loss"),
    ],
)
def test_tolerances_are_checked_before_anything_runs(short: Project, options: tuple[str, ...], complaint: str) -> None:
    run = only_run(short)
    done = verify(short, *options)
    assert (done.status, done.out, done.complaint) == (2, "", complaint.format(id=run.path.name))
    assert runs(short) == 1


def test_software_that_does_not_run(example: Record) -> None:
    """A fingerprint that cannot be computed blocks every level, as with instructions that this CPU lacks."""
    record = replace(example, environment=Environment(arithmetic=Arithmetic(digest="d", operations={"a": "1"})))
    spec = preflight.recorded_config(RunDir(Path("run")), record, data=Path("data"), runs=Path("runs"))
    for status, text in ((-4, ""), (2, "{}"), (0, "[]"), (0, '{"operations": 1}')):
        runtime = Runtime(
            setup=RunSetup(image=record.recipe.image),
            prepare=lambda: None,
            run=lambda *_: 0,
            query=lambda *_, status=status, text=text: (status, text),
        )
        (row,) = preflight._fingerprint_check(record, spec, runtime)
        assert row.blocks == ("bitwise", "metrics", "documented")
        assert row.reason == f"the recorded software ended with status {status}; see the lines on stderr"


_ODD: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    (
        "result",
        lambda value: value["fits"][0]["history"].update(loss=[]),
        "'result.fits[0].history.loss' holds no value",
    ),
    ("result", lambda value: value["fits"][0].pop("history"), "missing value in 'result.fits[0].history'"),
    (
        "environment",
        lambda value: value["fingerprint"].pop("operations"),
        "missing value in 'environment.fingerprint.operations'",
    ),
    (
        "environment",
        lambda value: value.update(peak_memory="much"),
        "'environment.peak_memory' must be int, not 'much'",
    ),
    ("environment", lambda value: value.update(cpu=None), "missing value in 'environment.cpu'"),
    ("environment", lambda value: value.update(promise=[1]), "'environment.promise' must be dict, not [1]"),
]


def test_values_that_no_record_holds(short: Project) -> None:
    """With a valid checksum: one line, and no traceback."""
    run = only_run(short)
    whole = run.record.read_bytes()
    run.ledger.unlink()
    for name, change, message in _ODD:
        run.record.unlink()
        run.record.write_bytes(whole)
        _edited(run, name, change)
        done = verify(short, "--level", "metrics")
        assert (done.status, done.out) == (2, ""), (name, done.out)
        assert f"record.json: {message}" in done.complaint


def test_a_manifest_that_is_gone(short: Project) -> None:
    """A manifest only serves to name the files that differ."""
    run = only_run(short)
    run.code_manifest.unlink()
    assert call("preflight", "last", folder=short.folder).status == 0
    (run.code / "train.py").write_text("pass\n")
    done = call("preflight", "last", folder=short.folder)
    assert done.status == 3
    assert "not what was recorded: the files are unknown, as the manifest is missing" in done.out


@pytest.mark.parametrize("error", long_tail([KeyboardInterrupt, SamebitsError], keep=[KeyboardInterrupt]))
def test_locating_that_is_stopped_leaves_the_verdict(
    project: Project, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    project.write(_UNSEEDED)
    run = trained(project)

    def locate(*_: object) -> None:
        raise error("no place")

    monkeypatch.setattr(verifying, "locate", locate)
    request, options = RerunRequest(runs=project.runs), verifying.VerifyOptions(locate=True)
    if error is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            verifying.verify(run, request, options)
    else:
        assert "no place" in str(verifying.verify(run, request, options).location)
    (path,) = project.runs.glob("*/verification.json")
    assert json.loads(path.read_text())["verdict"] == "different"


def test_a_broken_seal_is_an_error(short: Project) -> None:
    run = only_run(short)
    run.record.chmod(0o644)
    run.record.write_text(run.record.read_text().replace('"seed": 0', '"seed": 1'))
    for command in ("verify", "preflight", "diff"):
        words = ("last", "last") if command == "diff" else ("last",)
        done = call(command, *words, folder=short.folder)
        assert (done.status, done.out) == (2, "")
        assert done.complaint.endswith("the checksum does not match: the record was changed after it was written")


def test_a_ledger_that_was_changed(project: Project) -> None:
    run = trained(project)
    run.ledger.write_bytes(run.ledger.read_bytes().replace(b'"epoch":0', b'"epoch":7', 1))
    done = verify(project)
    assert (done.status, answer(done)) == (3, "not comparable")
    assert "ledger: " in done.out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nothing",), "there is no run nothing in runs; `samebits list` shows all runs"),
        (("last", "--level", "best"), "level must be one of bitwise, metrics, documented, not 'best'"),
        (("last", "--rel", "x"), "--rel takes a number from 0 on, or METRIC=NUMBER, not 'x'"),
        (("last", "--against", "none"), "there is no run none in runs; `samebits list` shows all runs"),
    ],
)
def test_what_was_asked_wrongly(project: Project, words: tuple[str, ...], complaint: str) -> None:
    run = project.runs / "20260801T101500Z-train-bba4ec6d"
    run.mkdir(parents=True)
    shutil.copy(EXAMPLE, run / "record.json")
    done = call("verify", *words, folder=project.folder)
    assert (done.status, done.out, done.complaint) == (2, "", complaint)


def _edited(run: RunDir, name: str, edit: Callable[[dict[str, Any]], object]) -> None:
    """Replace a run's record by another one with a valid checksum, as of another machine."""
    value = run.read().to_dict()
    edit(value[name])
    digest = None if value["result"] is None else str(Digest.of_json(value["result"]))
    del value["seal"]
    run.record.unlink()
    run.record.write_bytes(readable_json(with_checksum(value | {"result_digest": digest})))


def test_a_machine_that_computes_otherwise(short: Project) -> None:
    """The fingerprint differs: the bits cannot be judged, the metrics can."""
    run = only_run(short)
    _edited(run, "environment", lambda seen: seen["fingerprint"]["operations"].update({"tf.nn.gelu": "0" * 16}))
    done = call("preflight", "last", folder=short.folder)
    assert done.status == 3
    assert "this machine computes differently: tf.nn.gelu" in done.out
    assert verify(short).status == 3
    assert call("preflight", "last", "--level", "metrics", folder=short.folder).status == 0
    done = verify(short, "--level", "metrics")
    assert (done.status, answer(done).partition(":")[0]) == (0, "identical")


def test_another_python_is_another_recipe(short: Project, example: Record) -> None:
    run = only_run(short)
    record = run.read()
    other = replace(record.recipe, image=replace(record.recipe.image, python="3.12.99"))
    run.record.unlink()
    write_record(run.record, replace(record, recipe=other, ledger=None))
    done = verify(short)
    assert done.status == 3
    assert "python: another Python is another recipe; install the recorded one" in done.out
    assert "recipe: another recipe: image.python" in done.out
    assert example.id


def _see(monkeypatch: pytest.MonkeyPatch, report: GpuReport) -> None:
    """Like the driver: the multiprocessors only on request."""

    def read_gpus(*, multiprocessors: bool = False) -> GpuReport:
        hidden = tuple(replace(gpu, multiprocessors=None) for gpu in report.gpus)
        return report if multiprocessors else replace(report, gpus=hidden)

    monkeypatch.setattr(hardware, "read_gpus", read_gpus)


def test_each_kind_of_hardware(example: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other instructions and other GPUs block the bits; no GPU blocks everything."""
    device = replace(example.recipe.device, kind="gpu", model="NVIDIA A", compute_capability="9.0", count=1)
    record = replace(example, recipe=replace(example.recipe, device=device, instruction_set="x86-64-v2"))

    def rows(*gpus: Gpu) -> dict[str, tuple[str, ...]]:
        _see(monkeypatch, GpuReport(gpus=gpus, driver="580.1", reason=None if gpus else "NVML: no driver"))
        return {row.name: row.blocks for row in hardware.hardware(record)}

    def gpu(name: str, capability: str = "9.0") -> Gpu:
        return Gpu(name=name, compute_capability=capability, memory=1)

    assert rows(gpu("NVIDIA A"))["instructions"] == ("bitwise",)
    assert rows(gpu("NVIDIA A"))["gpu"] == ()
    assert rows(gpu("NVIDIA B"))["gpu"] == ("bitwise",)
    assert rows(gpu("NVIDIA A", "8.0"))["gpu"] == ("bitwise",)
    assert rows()["gpu"] == ("bitwise", "metrics", "documented")
    system = record.environment.system
    assert system is not None
    report = GpuReport(gpus=(replace(gpu("NVIDIA A"), multiprocessors=132),))
    record = replace(record, environment=replace(record.environment, system=replace(system, gpu=report)))
    assert rows(replace(gpu("NVIDIA A"), multiprocessors=132))["gpu"] == ()
    assert rows(replace(gpu("NVIDIA A"), multiprocessors=114))["gpu"] == ("bitwise",)
    _see(monkeypatch, GpuReport(gpus=(gpu("NVIDIA A"),), driver="470.1"))
    (row,) = (row for row in hardware.hardware(record) if row.name == "gpu")
    assert row.blocks == ("bitwise", "metrics", "documented")
    assert row.reason == "NVIDIA's driver is 470.1, and CUDA 12.5 needs 525.60.13 or later; upgrade the driver"
    two = replace(record, recipe=replace(record.recipe, device=replace(device, count=2)))
    _see(monkeypatch, GpuReport(gpus=(gpu("NVIDIA A"),)))
    assert {row.name: row.reason for row in hardware.hardware(two)}["gpu"] == "too few GPUs"


def older(place: Path, *words: str, folder: Path) -> None:
    """Call another version of samebits: this one with a line more in its container's half."""
    package = place / "old" / "src" / "samebits"
    if not package.exists():
        shutil.copytree(Path(samebits.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("Dockerfile", "Dockerfile.gpu", "requirements.lock", "requirements-gpu.lock"):
            shutil.copy(ROOT / name, place / "old" / name)
        with (package / "runner" / "script_runner.py").open("a") as file:
            file.write("\n# An older version.\n")
    command = [sys.executable, "-m", "samebits", *words]
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_memory(short: Project) -> None:
    """The peak memory is recorded in bytes, and compared with the free memory; too little is only reported."""
    run = only_run(short)
    assert 100 << 20 < (run.read().environment.peak_memory or 0) < 4 << 30
    _edited(run, "environment", lambda seen: seen.update(peak_memory=1 << 50))
    done = call("preflight", "last", folder=short.folder)
    assert done.status == 0
    assert "less memory is free than the run used; it may be killed" in done.out


def test_a_run_of_another_version_of_samebits(project: Project, tmp_path: Path) -> None:
    """The source that the run keeps is used again."""
    older(tmp_path, *project.command("--", "--epochs", "1")[1:], folder=project.folder)
    run = RunDir(project.runs / project.only_run().id)
    kept = run.image / "source" / "samebits" / "runner" / "script_runner.py"
    assert kept.read_text().endswith("# An older version.\n")
    done = verify(project)
    assert (done.status, answer(done).partition(":")[0]) == (0, "identical"), done.err
    again = project.folder / done.run / "image" / "source" / "samebits" / "runner" / "script_runner.py"
    assert again.read_text() == kept.read_text()


def test_against_another_run(short: Project) -> None:
    one = only_run(short)
    other = trained(short, "--seed", "4", "--", "--epochs", "1")
    done = verify(short, "--against", other.path.name, run=one.path.name)
    assert (done.status, answer(done)) == (1, "different")
    assert "inputs recipe seed: 0 -> 4" in done.out
    assert " values differ, by " in done.out
    assert verify(short, "--against", one.path.name, run=one.path.name).status == 0
    assert runs(short) == 2
    assert not other.verification.exists()


def test_no_engine_for_a_run_of_a_container(in_docker: Project) -> None:
    trained(in_docker, "--", "--epochs", "1")
    done = verify(in_docker, DOCKER_HOST="tcp://127.0.0.1:1")
    assert (done.status, answer(done)) == (3, "not comparable")
    assert "software: no container engine answers at tcp://127.0.0.1:1" in done.out
    assert runs(in_docker) == 1


def test_a_plain_docker_run(in_docker: Project) -> None:
    in_docker.runs.mkdir()
    assert plain_run(in_docker, "train.py", "--", "--epochs", "1").status == 0
    done = verify(in_docker, "--data", "data")
    assert (done.status, answer(done).partition(":")[0]) == (0, "identical"), done.out + done.err
    assert RunDir(in_docker.folder / done.run).read().recipe.digest == in_docker_recipe(in_docker)


def in_docker_recipe(project: Project) -> Digest:
    return read_record(min(project.runs.glob("*/record.json"))).recipe.digest


def test_an_image_that_is_gone_is_rebuilt(in_docker: Project, tmp_path: Path) -> None:
    """From the run's folder, to the same digest; preflight only reports it."""
    tag = "samebits-test:older"
    older(tmp_path, "build", "--tag", tag, folder=tmp_path)
    words = ("train", "train.py", "--data", "data", "--image", tag, "--", "--epochs", "1")
    older(tmp_path, *words, folder=in_docker.folder)
    subprocess.run(["docker", "rmi", tag], check=True, capture_output=True)
    config = in_docker.only_run().recipe.image.config
    assert config is not None
    rebuilt = f"samebits:rebuilt-{config.short}"
    try:
        done = call("preflight", "last", folder=in_docker.folder)
        assert done.status == 0
        assert "`samebits verify` rebuilds it from the run's folder" in done.out
        done = verify(in_docker)
        assert (done.status, answer(done).partition(":")[0]) == (0, "identical"), done.err
        assert "is gone; rebuilding it from the run's folder" in done.err
    finally:
        subprocess.run(["docker", "rmi", rebuilt], check=False, capture_output=True)
