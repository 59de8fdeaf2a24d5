"""The launcher keeps record and ledger: what the process in the container writes about itself has no effect on them.

The process is played here, in the folder that a container gets. `tests/engine/test_kept_run.py` has real ones.
"""

import io
import json
import os
import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from samebits.core.digest import Digest
from samebits.core.environment import Environment
from samebits.core.errors import RecordError, StorageError
from samebits.core.ledger import Ledger
from samebits.core.origin import Origin
from samebits.core.recipe import ImageIdentity
from samebits.core.record import FAILED, FINISHED, INTERRUPTED, LedgerEnd, Outcome, Record, read_record, write_record
from samebits.core.result import FitResult, Measured, ModelResult, OutputFile, Result, TensorDescription
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import RunSetup, plan_run, publish
from samebits.core.weights_file import stored_content, stored_tensors
from samebits.host.audit.folder_audit import audit_folder
from samebits.host.image.build_context import CPU, source_digest, staged_context
from samebits.host.launch import kept_run
from samebits.host.launch.kept_run import KeptRun, adopt
from samebits.host.launch.measurement import measure


@dataclass
class Launched:
    """A run whose container is about to start: the run's own folder, and what the container sees of it."""

    folder: RunDir
    record: Record
    kept: KeptRun

    @property
    def inside(self) -> RunDir:
        return RunDir(self.folder.staging)

    def trained(self, **changes: object) -> Record:
        """Play the runner to its end: image, ledger, output, model and record."""
        if not self.inside.image.exists():
            shutil.copytree(staged_context(), self.inside.image, ignore=shutil.ignore_patterns("__pycache__"))
        recipe = self.record.recipe.digest
        with Ledger(self.inside.ledger, recipe) as ledger:
            for epoch in range(2):
                line = {"event": "epoch", "fit": 0, "epoch": epoch, "metrics": {"loss": "0x1p+0"}}
                ledger.append({**line, "tensors": {}})
            ledger.append({"event": "end", "models": [model(VALUES).digest]})
            end = LedgerEnd(lines=ledger.lines, last=str(ledger.last))
        (self.inside.outputs / "notes.txt").write_text("notes")
        write_model(self.inside.models / "0-m.keras", VALUES)
        outputs = (OutputFile(path="notes.txt", by="bytes", digest=str(Digest.of_bytes(b"notes"))),)
        fit = FitResult(model=0, epochs=2, history={"loss": ("0x1p+0", "0x1p+0")})
        result = Result(models=(model(VALUES),), fits=(fit,), outputs=outputs)
        record = replace(
            read_record(self.inside.record),
            outcome=Outcome(state=FINISHED, exit_status=0),
            result=result,
            ledger=end,
            measured=Measured(),
        )
        record = replace(record, **changes)  # type: ignore[arg-type]
        self.report(record)
        return record

    def report(self, record: Record) -> None:
        self.inside.record.unlink()
        write_record(self.inside.record, record)

    def concluded(self, status: int | None = 0) -> Record:
        self.kept.conclude(status)
        return read_record(self.folder.record)


VALUES = np.arange(6, dtype="float32").reshape(2, 3)


def model(values: np.ndarray) -> ModelResult:
    tensor = TensorDescription(
        path="d/kernel", dtype="float32", shape=values.shape, digest=str(Digest.of_bytes(values.tobytes()))
    )
    digest = Digest.of_json([{"group": "trainable", "tensors": [tensor.to_dict()]}])
    return ModelResult(name="m", how="fit", tensors={"trainable": (tensor,)}, digest=str(digest))


def write_model(path: Path, values: np.ndarray) -> None:
    """An archive with weights as Keras writes them."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_group("layers/d/vars").create_dataset("0", data=values)
        file["layers/d/vars"].attrs["name"] = "d"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", content.getvalue())


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launched:
    monkeypatch.setattr("samebits.host.launch.ledger_keeper.POLL_SECONDS", 3600)
    return launch(tmp_path)


def launch(tmp_path: Path, workers: int = 1) -> Launched:
    """A run that is published."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("pass\n")
    identity = ImageIdentity(lock=CPU.lock_digest, source=source_digest(CPU))
    setup = RunSetup(image=identity, environment=Environment(runtime="docker"))
    spec = RunConfig(script=tmp_path / "code" / "train.py", runs=tmp_path / "runs", workers=workers)
    folder, record = publish(plan_run(spec, setup))
    kept = KeptRun(folder, record)
    kept.begin()
    return Launched(folder, record, kept)


def step(launched: Launched) -> None:
    """What the launcher does every few moments."""
    launched.kept._step()


def test_a_run_is_taken_over(launched: Launched) -> None:
    reported = launched.trained()
    record = launched.concluded()
    assert record.outcome.state == FINISHED
    assert record.result == reported.result
    assert record.measured == Measured(by="launcher")
    assert record.ledger == reported.ledger
    assert not launched.folder.staging.exists()
    assert (launched.folder.outputs / "notes.txt").read_text() == "notes"
    assert audit_folder(launched.folder).intact


@pytest.mark.parametrize("honest", [True, False])
def test_a_model_file_in_outputs_has_the_content_that_was_reported(launched: Launched, honest: bool) -> None:
    reported = launched.trained()
    write_model(launched.inside.outputs / "m.keras", VALUES)
    content = stored_content(launched.inside.outputs / "m.keras", launched.folder.path)
    if not honest:
        write_model(launched.inside.outputs / "m.keras", VALUES + 1)
    assert reported.result is not None
    added = OutputFile(path="m.keras", by="tensors", digest=str(content))
    result = replace(reported.result, outputs=tuple(sorted((*reported.result.outputs, added), key=lambda o: o.path)))
    launched.report(replace(reported, result=result))
    record = launched.concluded()
    if honest:
        assert (record.outcome.state, record.measured) == (FINISHED, Measured(by="launcher"))
    else:
        message = "the result has other digests than what outputs/ holds: m.keras"
        assert (record.outcome.state, record.outcome.message, record.result) == (FAILED, message, None)


def test_what_is_planned_stays_as_planned(launched: Launched) -> None:
    """A record that the script has rewritten: another seed, start, id, origin and image."""
    record = launched.record
    launched.trained(
        id="another",
        started="2000-01-01T00:00:00+00:00",
        recipe=replace(record.recipe, seed=99),
        origin=Origin(script="/elsewhere"),
        strict=True,
        environment=replace(record.environment, runtime="venv", peak_memory=1),
    )
    found = launched.concluded()
    assert (found.id, found.started, found.recipe) == (record.id, record.started, record.recipe)
    assert (found.origin, found.strict) == (record.origin, False)
    assert (found.environment.runtime, found.environment.peak_memory) == ("docker", 1)


def _other_output(inside: RunDir) -> None:
    (inside.outputs / "notes.txt").write_text("other")


def _more_output(inside: RunDir) -> None:
    (inside.outputs / "more.txt").touch()


def _pipe(inside: RunDir) -> None:
    os.mkfifo(inside.outputs / "pipe")


def _other_weights(inside: RunDir) -> None:
    write_model(inside.models / "0-m.keras", VALUES + 1)


def _other_source(inside: RunDir) -> None:
    (inside.image / "source" / "samebits" / "__init__.py").write_text("import os")


def _link_in_image(inside: RunDir) -> None:
    (inside.image / "Dockerfile").unlink()
    (inside.image / "Dockerfile").symlink_to("/etc/passwd")


def _shorter_ledger(inside: RunDir) -> None:
    inside.ledger.write_bytes(b"")


def _unchained(inside: RunDir) -> None:
    with inside.ledger.open("ab") as file:
        file.write(b'{"event":"epoch","line":4,"previous":"sha256:00","version":"1.1"}\n')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_output, "the result has other digests than the files in outputs/: notes.txt"),
        (_more_output, "the result has other digests than the files in outputs/: more.txt"),
        (_pipe, "outputs/pipe is a pipe, which has no content to record"),
        (_other_weights, "the result has other values of m than models/0-m.keras holds"),
        (_other_source, "is not the recorded one"),
        (_link_in_image, "cannot be read"),
        (_shorter_ledger, "the ledger became shorter"),
        (_unchained, "line 4 of the ledger was refused: it does not follow from the line before"),
    ],
    ids=lambda item: getattr(item, "__name__", ""),
)
def test_what_the_files_contradict(launched: Launched, change: Callable[[RunDir], None], message: str) -> None:
    """The script changed something after its digest was taken, or claims another one."""
    launched.trained()
    if change is _shorter_ledger:
        step(launched)
    change(launched.inside)
    record = launched.concluded()
    assert (record.outcome.state, record.result) == ("failed", None)
    assert message in str(record.outcome.message)
    assert audit_folder(launched.folder).intact


def test_lines_and_image_are_taken_as_they_come(launched: Launched) -> None:
    """What the script rewrites later has no effect."""
    launched.trained()
    step(launched)
    lines = launched.folder.ledger.read_bytes()
    assert lines.count(b"\n") == 3
    launched.inside.ledger.write_bytes(lines.replace(b'"epoch":0', b'"epoch":7'))
    shutil.rmtree(launched.inside.image)
    assert launched.concluded().outcome.state == FINISHED
    assert launched.folder.ledger.read_bytes() == lines
    assert (launched.folder.image / "Dockerfile").is_file()


def test_a_planted_link_is_not_written_through(launched: Launched, tmp_path: Path) -> None:
    """Whoever sent a run's folder knows the names of its files."""
    launched.trained()
    (tmp_path / "home").mkdir()
    (launched.inside.image / ".bashrc").write_text("echo")
    (launched.folder.path / ".image").symlink_to(tmp_path / "home")
    record = adopt(launched.folder, launched.record)
    assert list((tmp_path / "home").iterdir()) == []
    assert record.finalized
    assert not list(launched.folder.path.glob(".image-*"))


@pytest.mark.parametrize("change", [lambda _: None, _unchained], ids=["whole", "refused"])
def test_taking_over_begins_again_where_it_was_interrupted(
    launched: Launched, monkeypatch: pytest.MonkeyPatch, change: Callable[[RunDir], None]
) -> None:
    """A signal or a full disk comes after the ledger was closed; the end is recorded as without it."""
    launched.trained()
    change(launched.inside)
    with monkeypatch.context() as patch:
        patch.setattr(kept_run, "take_results", _disk_is_full)
        with pytest.raises(StorageError):
            launched.kept.conclude(0)
    record = launched.concluded()
    assert record.outcome.state == (FINISHED if change is not _unchained else "failed")
    assert record.ledger is not None
    assert record.ledger.lines == 3
    assert audit_folder(launched.folder).intact


def test_a_signal_while_the_rest_is_removed(launched: Launched, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is not written a second time."""
    launched.trained()
    with monkeypatch.context() as patch:
        patch.setattr(kept_run, "remove_staging", _disk_is_full)
        with pytest.raises(StorageError):
            launched.kept.conclude(0)
    assert launched.concluded().outcome.state == FINISHED
    assert not launched.folder.late_records()


def _disk_is_full(*_: object) -> None:
    raise StorageError("the disk is full")


def test_a_line_that_was_taken_back(launched: Launched) -> None:
    """Ctrl-C came while it was written: the runner removes it."""
    launched.trained()
    step(launched)
    first = b"".join(launched.inside.ledger.read_bytes().splitlines(keepends=True)[:2])
    with launched.inside.ledger.open("r+b") as file:
        file.truncate(len(first))
    step(launched)
    assert launched.folder.ledger.read_bytes() == first


def test_an_older_runner(launched: Launched) -> None:
    """Its record keeps the version that it reads when the run is trained again."""
    record = launched.trained()
    launched.inside.record.unlink()
    write_record(launched.inside.record, record, "1.3")
    record = launched.concluded()
    assert (record.outcome.state, record.version) == (FINISHED, "1.3")
    assert json.loads(launched.folder.record.read_bytes())["version"] == "1.3"


@pytest.mark.parametrize("status", [1, 137])
def test_a_status_that_contradicts(launched: Launched, status: int) -> None:
    launched.trained()
    record = launched.concluded(status)
    assert record.outcome.message == f"the run's process reported that it finished, and ended with status {status}"


@pytest.mark.parametrize("kind", ["gone", "pipe", "link", "text", "large"])
def test_no_usable_report(launched: Launched, kind: str) -> None:
    """The record stays the launcher's, and is not finalized here: `train` does that by the exit status."""
    launched.trained()
    path = launched.inside.record
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(launched.folder.record)
    elif kind != "gone":
        path.write_text("{")
        os.truncate(path, 1 << 40 if kind == "large" else 1)
    record = launched.concluded()
    assert not record.finalized
    assert record.recipe == launched.record.recipe
    assert launched.folder.ledger.read_bytes().count(b"\n") == 3


def test_what_cannot_be_measured_is_named(launched: Launched) -> None:
    launched.trained()
    (launched.inside.models / "0-m.keras").write_bytes(b"nothing was trained")
    record = launched.concluded()
    assert record.measured == Measured(by="launcher", claimed=("model 0 (m)",))
    assert record.covers == "1 model, 1 file; computed by the script's process, not checked: model 0 (m)"


def _folder_for_model(inside: RunDir) -> None:
    (inside.models / "0-m.keras").unlink()
    (inside.models / "0-m.keras").mkdir()


def _link_for_model(inside: RunDir) -> None:
    (inside.models / "0-m.keras").unlink()
    (inside.models / "0-m.keras").symlink_to("/dev/zero")


def _link_for_models(inside: RunDir) -> None:
    shutil.rmtree(inside.models)
    inside.models.symlink_to("/etc")


def _file_for_models(inside: RunDir) -> None:
    shutil.rmtree(inside.models)
    inside.models.touch()


@pytest.mark.parametrize("change", [_folder_for_model, _link_for_model, _link_for_models, _file_for_models])
def test_something_else_in_the_place_of_a_model(launched: Launched, change: Callable[[RunDir], None]) -> None:
    """The record is finalized all the same."""
    launched.trained()
    change(launched.inside)
    record = launched.concluded()
    assert record.finalized
    assert record.measured == Measured(by="launcher", claimed=("model 0 (m)",))


def test_models_that_cannot_be_listed(launched: Launched, tmp_path: Path) -> None:
    recipe, result = launched.record.recipe, Result(models=(model(VALUES),), fits=(), outputs=())
    (tmp_path / "run" / "outputs").mkdir(parents=True)
    (tmp_path / "run" / "models").symlink_to("/etc")
    assert measure(RunDir(tmp_path / "run"), recipe, result)[0].claimed == ("model 0 (m)",)


def test_a_launcher_that_died(launched: Launched) -> None:
    """A later command takes over what there is: lines, checkpoints, output."""
    launched.trained()
    launched.report(launched.record)
    (launched.inside.checkpoints.folder / "objects").mkdir(parents=True)
    assert launched.folder.read().outcome.state == "running"
    record = adopt(launched.folder, launched.record)
    assert not record.finalized
    assert launched.folder.ledger.read_bytes().count(b"\n") == 3
    assert launched.folder.checkpoints.objects.is_dir()
    assert (launched.folder.outputs / "notes.txt").is_file()
    assert not launched.folder.staging.exists()


def test_a_process_that_is_left(launched: Launched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken over while one may still write."""
    monkeypatch.setattr(kept_run, "_WAIT_SECONDS", 0.1)
    launched.trained()
    with Ledger(launched.inside.ledger, launched.record.recipe.digest):
        assert launched.folder.liveness(launched.record) == "alive"
        with pytest.raises(RecordError, match="a process of the run still writes"):
            launched.kept.conclude(0)
    assert launched.concluded().outcome.state == FINISHED


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_tensors_of_a_model_file(tmp_path: Path, suffix: str) -> None:
    """As HDF5's own library reads them; of another form nothing is read."""
    arrays = {
        "a/vars/0": VALUES,
        "a/vars/1": np.float32(2.5),
        "b/vars/0": np.arange(300, dtype="int64"),
        "c": np.zeros((0, 3), "float16"),
    }
    arrays |= {f"many/{number}": np.full(2, number, "uint8") for number in range(200)}
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values)
    path = tmp_path / f"m{suffix}"
    path.write_bytes(content.getvalue())
    if suffix == ".keras":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model.weights.h5", content.getvalue())
    found = stored_tensors(path, tmp_path)
    assert found is not None
    wanted = [
        (str(item.dtype), item.shape, str(Digest.of_bytes(item.tobytes()))) for item in map(np.asarray, arrays.values())
    ]
    assert sorted(found.elements()) == sorted(wanted)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 997):
        path.write_bytes(whole[:cut])
        assert stored_tensors(path, tmp_path) is None


def test_the_content_of_a_model_file(tmp_path: Path) -> None:
    """Attributes and arrays in the order of their names, as the runner lists them with HDF5's library."""
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["b"] = json.dumps({"class_name": "M", "shared_object_id": 7, "x": 1.5})
        file.attrs["a"] = np.array([b"kernel", b"bias"])
        file.attrs["n"] = np.int64(5)
        file.create_group("z").attrs["name"] = "\u00e9"
        file["a/0"] = VALUES
    digest = str(Digest.of_bytes(VALUES.tobytes()))
    wanted = [
        ["@a", ["kernel", "bias"]],
        ["@b", {"class_name": "M", "x": "0x1.8000000000000p+0"}],
        ["@n", "5"],
        ["/a/0", "float32", [2, 3], digest],
        ["/z@name", "\u00e9"],
    ]
    assert stored_content(tmp_path / "m.h5", tmp_path) == Digest.of_json(wanted)


@pytest.mark.parametrize("option", [{"chunks": (1, 3)}, {"compression": "gzip"}, {"dtype": ">f4"}])
def test_a_form_that_keras_does_not_write(tmp_path: Path, option: dict[str, object]) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("x", data=VALUES, **option)
    found = stored_tensors(tmp_path / "m.h5", tmp_path)
    assert found is None or ("float32", (2, 3), str(Digest.of_bytes(VALUES.tobytes()))) not in found


def test_a_group_that_holds_itself(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["x"] = VALUES
        file["again"] = file["/"]
    assert stored_tensors(tmp_path / "m.h5", tmp_path) is None


@pytest.mark.parametrize("left", [True, False])
def test_a_worker_of_another_node_that_may_still_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:
    """What the run left could change after it was measured, so it has no result."""
    monkeypatch.setattr(kept_run, "_WAIT_SECONDS", 0.3)
    monkeypatch.setattr("samebits.host.launch.ledger_keeper.POLL_SECONDS", 3600)
    launched = launch(tmp_path, workers=2)
    launched.trained()
    launched.folder.workers.mkdir()
    entrance = launched.folder.worker_entrance(1)
    entrance.write_text("{}")
    if not left:
        threading.Timer(0.1, entrance.unlink).start()
    record = launched.concluded()
    why = "the container of worker 1 may still run, and could change what the run left"
    assert (record.outcome.state, record.outcome.message) == ((FAILED, why) if left else (FINISHED, None))
    assert (record.result is None) == left
    assert not launched.folder.workers.exists()


def test_one_that_was_interrupted_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node of a worker may be gone for good."""
    monkeypatch.setattr("samebits.host.launch.ledger_keeper.POLL_SECONDS", 3600)
    launched = launch(tmp_path, workers=2)
    launched.trained(outcome=Outcome(state=INTERRUPTED, message="worker 1 is gone"), result=None)
    launched.folder.workers.mkdir()
    launched.folder.worker_entrance(1).write_text("{}")
    began = time.monotonic()
    assert launched.concluded(2).outcome.message == "worker 1 is gone"
    assert time.monotonic() - began < 5
