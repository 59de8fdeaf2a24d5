"""`samebits train --workers N`: unchanged scripts of MultiWorkerMirroredStrategy, with one result for one number."""

import os
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.record import read_record
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import plan_run, publish
from samebits.host.audit.ledger_audit import check_ledger
from samebits.host.image.build_context import staged_context
from samebits.host.launch.runtime import choose_runtime
from samebits.host.launch.venv import locked_python, plan_process, run_process
from samebits.runner.workers.whole_script import OWN_LOOP
from support.command import ROOT, SCRIPTS, Done, Project, call, newest
from support.machine import started

_ONE_THREAD = ("--threads", "1")


def _train(project: Project, script: str, *words: str, workers: int = 2) -> Done:
    shutil.copy(SCRIPTS / "workers" / f"{script}.py", project.script)
    return project.train("--workers", str(workers), *_ONE_THREAD, "--", *words)


def _ours(done: Done) -> str:
    """The last line of samebits's own on stderr: TensorFlow prints its own, with a traceback, before it."""
    return [line for line in done.err.splitlines() if line.startswith("samebits: ")][-1].removeprefix("samebits: ")


def _left(project: Project) -> list[str]:
    """Processes that hold the runs, and the folders of their workers."""
    found = [str(path) for path in project.runs.glob("*/workers")]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [path.parent.name] if str(project.runs).encode() in path.read_bytes() else []
        except OSError:
            continue
    return found


def _check_ended(project: Project, state: str, message: str) -> None:
    """The record of the newest run says how it ended, its ledger is whole, and nothing is left."""
    run = newest(project)
    record = read_record(run.record)
    assert (record.outcome.state, record.outcome.message) == (state, message)
    assert record.result is None
    assert not check_ledger(run.ledger, record).problems
    assert _left(project) == []


OTHER_MACHINE = """
import os, sys
from dataclasses import replace
from samebits.runner import entrypoint
from samebits.runner.determinism.portability import FingerprintJob

finish = FingerprintJob.finish

def changed(job):
    found = finish(job)
    if "/workers/1" not in os.environ["HOME"]:
        return found
    return replace(found, operations={**found.operations, "tf.conv2d 3x3": "0" * 16})

FingerprintJob.finish = changed
sys.exit(entrypoint.main(["--run", sys.argv[1]]))
"""


@pytest.mark.slow
def test_workers_on_machines_that_compute_otherwise(project: Project, tmp_path: Path) -> None:
    """The fingerprint of one worker's machine is changed. Nothing is trained."""
    shutil.copy(SCRIPTS / "workers" / "fit.py", project.script)
    spec = RunConfig(script=project.script, data=project.data, runs=project.runs, runtime="venv", workers=2, threads=1)
    folder, _ = publish(plan_run(spec, choose_runtime(spec).setup))
    source = staged_context() / "source"
    variables = spec.variables | {"SAMEBITS_DATA": str(project.data.resolve())}
    request = plan_process((), variables, scratch=tmp_path, python=locked_python(), source=source)
    command = (str(locked_python()), "-P", "-c", OTHER_MACHINE, str(folder.path.resolve()))
    assert run_process(replace(request, command=command)) == 2
    record = read_record(folder.record)
    reason = "worker 1 disagrees with worker 0 at the fingerprint of its machine: tf.conv2d 3x3 is the first to differ"
    assert (record.outcome.state, record.outcome.message) == ("failed", reason)
    assert folder.ledger.read_bytes() == b""


def test_workers_that_disagree(project: Project) -> None:
    """One worker's bias is changed by 1e-7 in the second epoch."""
    done = _train(project, "fit", "perturb-1")
    assert done.status == 2
    reason = (
        "worker 1 disagrees with worker 0 at line 2 of the ledger (fit 0, epoch 1): sequential/dense/bias is the first"
        " to differ"
    )
    assert _ours(done) == reason
    _check_ended(project, "failed", reason)


@pytest.mark.slow
def test_the_script_of_the_page(project: Project) -> None:
    (script,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "workers.md").read_text(encoding="utf-8"), re.DOTALL
    )
    project.write(script)
    first, second = (project.train("--workers", "2", *_ONE_THREAD) for _ in range(2))
    assert first.status == 0, first.err
    assert first.line("result") == second.line("result")
    record = newest(project).read()
    assert record.covers.startswith("1 model, ")
    assert record.resumable is not None
    assert record.resumable.resumable, record.resumable.reasons


@pytest.mark.slow
def test_the_number_of_workers_decides_the_bits(each_runtime: Project) -> None:
    """Whatever the order of arrival, in either runtime; the number belongs to the recipe."""
    project = each_runtime
    first, second = _train(project, "fit"), _train(project, "fit")
    late, three = _train(project, "fit", "late"), _train(project, "fit", workers=3)
    assert [done.status for done in (first, second, late, three)] == [0] * 4, first.err + three.err
    assert first.line("recipe") == second.line("recipe")
    assert first.line("result") == second.line("result") == late.line("result") != three.line("result")
    assert "done 0" in first.out
    assert "done 1" not in first.out

    run = RunDir(project.folder / first.run)
    record = read_record(run.record)
    assert record.recipe.world_size == 2
    assert record.resumable is not None
    assert record.resumable.resumable
    # No resumed run needs what the other workers kept.
    assert not (run.path / "checkpoints" / "workers").exists()
    assert record.ledger is not None
    assert check_ledger(run.ledger, record).lines == 4  # three epochs and the end
    assert [path.name for path in run.outputs.iterdir()] == ["model.keras"]
    assert _left(project) == []

    verified = call("verify", first.run.name, folder=project.folder)
    assert verified.out.splitlines()[-1].startswith("identical"), verified.out + verified.err
    differing = call("diff", first.run.name, three.run.name, folder=project.folder)
    assert "world_size" in differing.out
    for words in (("verify", first.run.name, "--segments"), ("verify", first.run.name, "--locate"), ("resume",)):
        refused = call(*words, *([first.run.name] if words == ("resume",) else []), folder=project.folder)
        assert refused.status == 2
    shown = call("show", first.run.name, folder=project.folder).out
    assert ["workers", "2"] in [line.split() for line in shown.splitlines()]


_PAUSE = """
class Pause(keras.callbacks.Callback):
    seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(logs["loss"] * (1 + index))  # other values in each worker
        time.sleep(0.5)


callback = keras.callbacks"""


def _workers_of(run: RunDir) -> list[int]:
    """The processes of a run that train, the chief first: the children of the process that started them."""
    host = read_record(run.record).host
    assert host is not None
    assert host.training is not None
    parent = _parent(host.training.pid)
    pids = (int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat"))
    return sorted(pid for pid in pids if _parent(pid) == parent)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_a_killed_worker_resumes_to_the_same_bits(project: Project, index: int) -> None:
    """Each worker gets its own state back: moving statistics, a callback's values, the place in the data."""
    text = (SCRIPTS / "workers" / "fit.py").read_text().replace("callback = keras.callbacks", _PAUSE, 1)
    text = text.replace("else 3", "else 6").replace("callbacks=[callback]", "callbacks=[callback, Pause()]")
    _check_resumed(project, text, index)


_ALONE = """
import time
import keras, numpy as np, tensorflow as tf

class Pause(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2: time.sleep(5)  # so that no worker trains on alone until it is ended

strategy = tf.distribute.MultiWorkerMirroredStrategy()
x = np.random.default_rng(1).normal(size=(48, 4)).astype("float32")
pairs = tf.data.Dataset.from_tensor_slices((x, x)).shuffle(48)
coder = keras.Sequential([keras.layers.Dense(3, activation="relu"), keras.layers.Dropout(0.2), keras.layers.Dense(4)])
coder.compile("adam", "mse")
coder.fit(pairs.batch(8), validation_data=(x, x), epochs=4, verbose=0, callbacks=[Pause()])
with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    model.compile("adam", "mse")
coded = tf.data.Dataset.from_tensor_slices((x, coder.predict(x, verbose=0))).batch(8)
model.fit(coded, epochs=4, verbose=0, callbacks=[Pause()])
"""


@pytest.mark.slow
@pytest.mark.parametrize("phase", [0, 1])
def test_a_killed_worker_resumes_a_model_that_none_shares(project: Project, phase: int) -> None:
    """A model of no scope is trained by each worker, and its data is drawn as one worker draws it."""
    _check_resumed(project, _ALONE, 1, phase)


def _check_resumed(project: Project, text: str, index: int, phase: int = 0) -> None:
    """Kill a worker after two epochs of a phase, and resume: the same bits, in all lines of the ledger."""
    project.write(text)
    whole = project.train("--workers", "2", *_ONE_THREAD)
    assert whole.status == 0, whole.err
    command = project.command("--workers", "2", *_ONE_THREAD)
    with started(command, cwd=project.folder, env=dict(os.environ)) as process:
        deadline = time.monotonic() + 300
        while not _kept(project, whole.run.name, phase):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(_workers_of(newest(project))[index], signal.SIGKILL)
        assert process.wait(100) == 2
    killed = newest(project)
    assert killed.read().outcome.state == "interrupted"
    done = call("resume", killed.path.name, folder=project.folder)
    assert done.status == 0, done.err
    assert done.line("result") == whole.line("result")
    resumes = newest(project).read().origin.resumes
    assert resumes is not None
    assert resumes.reproduced
    assert resumes.checkpoint is not None
    assert (newest(project).ledger).read_bytes() == (RunDir(project.folder / whole.run)).ledger.read_bytes()
    assert _left(project) == []


def _kept(project: Project, but: str, phase: int) -> bool:
    """Whether both workers of the second run have checkpoints of two epochs of a phase."""
    for run in project.runs.glob("2*"):
        stores = (run / "checkpoints", run / "checkpoints" / "workers" / "1")
        if run.name != but and all(len(list(store.glob(f"{phase:04}-*.json"))) >= 2 for store in stores):
            return True
    return False


@pytest.mark.slow
def test_a_custom_loop(project: Project) -> None:
    """Three workers: with two, no order of arrival could change a sum."""
    first, second = _train(project, "loop", workers=3), _train(project, "loop", workers=3)
    assert (first.status, second.status) == (0, 0), first.err
    assert first.line("result") == second.line("result")
    perturbed = _train(project, "loop", "perturb")
    assert (perturbed.status, "at line 1 of the ledger (the end of sequential)" in _ours(perturbed)) == (2, True)
    in_rounds = _train(project, "loop", "rounds", "perturb")
    assert in_rounds.status == 2
    assert "at line 2 of the ledger (phase 0, round 1)" in _ours(in_rounds)
    assert "sequential/dense/kernel is the first to differ" in _ours(in_rounds)


def test_no_worker_tunes_its_pipelines(project: Project) -> None:
    """The thread that tunes may sleep on for up to a minute when its iterator ends."""
    done = _train(project, "tuning")
    assert done.status == 0, done.err
    assert done.out.splitlines()[:2] == ["made: ['make_iterator', 'multi_device_iterator_init']", "tuned: []"]


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_a_worker_that_is_killed(project: Project, index: int) -> None:
    began = time.monotonic()
    done = _train(project, "fit", f"kill-{index}")
    assert time.monotonic() - began < 300
    how = "was killed by SIGKILL (by the system because memory ran out, or by someone)"
    reason = f"worker {index} of 2 {how}; the run needs all of its workers"
    assert (done.status, _ours(done)) == (2, reason)
    _check_ended(project, "interrupted", reason)


@pytest.mark.slow
def test_a_script_that_fails(project: Project) -> None:
    """In one worker, whose traceback is printed; or in all, as with one worker."""
    done = _train(project, "fit", "raise-1")
    reason = "worker 1 of 2: the script failed: ValueError: this worker cannot"
    assert (done.status, _ours(done)) == (1, reason)
    assert "worker 1: ValueError: this worker cannot" in done.err.splitlines()
    _check_ended(project, "failed", reason)
    done = _train(project, "fit", "raise-0", "raise-1")
    assert done.status == 1
    _check_ended(project, "failed", "the script failed: ValueError: this worker cannot")


@pytest.mark.slow
def test_a_model_that_only_the_chief_fits(project: Project) -> None:
    """Outside of the scope it trains alone, and the other worker is at its first epoch of the shared model."""
    done = _train(project, "fit", "extra-0")
    assert done.status == 2
    reason = (
        "at line 1 of the ledger (fit 0, epoch 0) worker 1 trains sequential/conv2d/kernel, and worker 0 a model"
        " outside of the strategy's scope; all workers must train the same models, in the same order"
    )
    assert _ours(done) == reason
    _check_ended(project, "failed", reason)


@pytest.mark.slow
def test_a_worker_that_leaves_does_not_hang_the_others(project: Project) -> None:
    """Its script ends early; the other waits for it in a collective."""
    done = _train(project, "fit", "leave-1")
    assert done.status == 2
    assert "worker" in _ours(done)
    assert read_record(newest(project).record).outcome.state == "failed"
    assert _left(project) == []


@pytest.mark.slow
def test_a_script_that_trains_alone(project: Project) -> None:
    """It knows strategies, and makes another one than that of several workers."""
    project.write(f"# no Strategy\n{project.script.read_text()}")
    done = project.train("--workers", "2", *_ONE_THREAD)
    reason = (
        "each of the 2 workers trained alone, and the same: the script makes no MultiWorkerMirroredStrategy; make"
        " the model in its scope, or drop --workers"
    )
    assert (done.status, _ours(done)) == (2, reason)
    _check_ended(project, "failed", reason)


@pytest.mark.slow
def test_a_script_for_one_worker(project: Project) -> None:
    """Unchanged, it gives the bits of the same script with its model in the scope of a strategy."""
    done = _train(project, "plain")
    assert done.status == 0, done.err
    alone = _train(project, "plain", workers=1)
    text = (SCRIPTS / "workers" / "plain.py").read_text()
    begin, end = text.index("model = keras"), text.index('if "loop"')
    scoped = "".join(f"    {line}\n" for line in text[begin:end].splitlines())
    made = text[:begin].replace("# Here comes the scope.", "strategy = tf.distribute.MultiWorkerMirroredStrategy()")
    project.write(f"{made}with strategy.scope():\n{scoped}{text[end:]}")
    known = project.train("--workers", "2", *_ONE_THREAD)
    assert known.status == 0, known.err
    assert done.line("result") == known.line("result") != alone.line("result")
    assert done.line("evaluated") == known.line("evaluated")
    assert "predicted (150, 3)" in done.out


@pytest.mark.slow
def test_a_loop_that_no_strategy_splits(project: Project) -> None:
    """Each worker would train the whole batch."""
    done = _train(project, "plain", "loop")
    assert done.status == 2
    assert _ours(done) == OWN_LOOP
    _check_ended(project, "failed", OWN_LOOP)
    assert _train(project, "plain", "loop", workers=1).status == 0


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all(each_runtime: Project, number: int, status: int) -> None:
    project = each_runtime
    shutil.copy(SCRIPTS / "workers" / "fit.py", project.script)
    command = project.command("--workers", "2", *_ONE_THREAD, "--", "long", "announce-0")
    with started(command, cwd=project.folder, env=dict(os.environ), start_new_session=True) as process:
        assert process.stdout is not None
        assert "TRAINING" in process.stdout.readline()
        process.send_signal(number)
        assert process.wait(60) == status
    assert read_record(newest(project).record).outcome.state == "interrupted"
    assert _left(project) == []


_IDLE = """
import json, os, time
import keras, numpy as np, tensorflow as tf

class Idle(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1 and json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 0:
            print("IDLE", flush=True)
            time.sleep(1000)

with tf.distribute.MultiWorkerMirroredStrategy().scope():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
x = np.ones((4, 2), "float32")
data = tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(2)
model.fit(data, epochs=9, verbose=0, callbacks=[Idle()])
"""


@pytest.mark.slow
def test_a_signal_ends_an_idle_chief_soon(project: Project) -> None:
    """TensorFlow would have its process wait for the workers that are gone."""
    project.write(_IDLE)
    command = project.command("--workers", "2", *_ONE_THREAD)
    with started(command, cwd=project.folder, env=dict(os.environ), start_new_session=True) as process:
        assert process.stdout is not None
        while "IDLE" not in process.stdout.readline():
            assert process.poll() is None
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert time.monotonic() - begun < 4.5, "less than the chief is granted at most"
    assert read_record(newest(project).record).outcome.state == "interrupted"
    assert _left(project) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--workers", "0"), "workers must be from 1 to 64, not 0"),
        (("--workers", "-2"), "workers must be from 1 to 64, not -2"),
        (("--workers", "1000"), "workers must be from 1 to 64, not 1000"),
        (("--workers", "2", "--gpus", "1"), "several workers train on the CPU only; drop --gpus or --workers"),
        (
            ("--workers", "2", "--trace", "step"),
            "several workers have no trace of steps; drop --trace step or --workers",
        ),
        (
            ("--workers", "2", "--checkpoint-every", "5"),
            "several workers write checkpoints after epochs only; drop --checkpoint-every or --workers",
        ),
        (("--workers", "two"), "argument --workers: invalid int value: 'two'; see 'samebits train --help'"),
    ],
)
def test_refused_before_anything_starts(small_project: Project, options: tuple[str, ...], reason: str) -> None:
    done = call("train", "train.py", *options, folder=small_project.folder)
    assert (done.status, done.complaint) == (2, reason)
    assert not small_project.runs.exists()


def test_a_check_has_no_workers(small_project: Project) -> None:
    """As an option it has none; a project's samebits.toml may name a number, which only short runs refuse."""
    done = call("check", "train.py", "--workers", "2", folder=small_project.folder)
    assert (done.status, "--workers" in done.complaint) == (2, True)
    (small_project.folder / "samebits.toml").write_text("workers = 2\n")
    assert call("check", "train.py", folder=small_project.folder).status == 0
    done = call("check", "train.py", "--run", "--runtime", "venv", folder=small_project.folder)
    assert done.status == 2
    assert done.complaint == "`check` runs one worker; drop --run, --resume and --cost, or workers in samebits.toml"
