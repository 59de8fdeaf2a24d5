"""Jobs on a real cluster: a script that takes its time, and waiting for what becomes of a job."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from samebits.core.origin import ResumedRun
from samebits.core.record import FINISHED, INTERRUPTED
from samebits.core.run_dir import RunDir
from samebits.host.cluster.job_dir import JobDir
from support.command import COMMAND, SCRIPTS, Done, Project, call

SLOW_SCRIPT = """
import os, sys, time
import keras, numpy as np

class Slow(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        time.sleep(float(os.environ["PAUSE"]))

print("environment", sorted(os.environ))
x = np.arange(64, dtype="float32").reshape(16, 4) / 64
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
model.compile("adam", "mse")
model.fit(x, x[:, :1], epochs=int(sys.argv[1]), verbose=2, callbacks=[Slow()])
"""


def workers_script(project: Project, epochs: int, pause: float) -> None:
    """A script of several workers that takes its time after each epoch."""
    text = (SCRIPTS / "workers" / "fit.py").read_text().replace("else 3", f"else {epochs}")
    slow = f"keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: time.sleep({pause}))"
    project.write(text.replace("callbacks=[callback]", f"callbacks=[callback, {slow}]"))


def started(
    project: Project, words: Sequence[str], epochs: int, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """`samebits` with these words, which follows a job of `SLOW_SCRIPT`."""
    return subprocess.Popen(
        [*COMMAND, *words, "--", str(epochs)],
        cwd=project.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def trained_here(project: Project, words: Sequence[str], epochs: int, pause: float) -> Done:
    """The same recipe on this machine; the pause is in the recipe, and slows this one as well."""
    words = ("train", "train.py", *words, "--env", f"PAUSE={pause}", "--runs", "local")
    done = call(*words, "--", str(epochs), folder=project.folder)
    assert done.status == 0, done.err
    return done


def finished(process: subprocess.Popen[str]) -> Done:
    """What a command that follows a job has printed at its end."""
    out, err = process.communicate(timeout=500)
    return Done(status=process.returncode, out=out, err=err)


def wait_for(found: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Wait until something is true, while a process lives."""
    deadline = time.monotonic() + 200
    while not found():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.1)


def job_of(project: Project) -> JobDir:
    """The one job there is, once it was submitted."""
    wait_for(lambda: [path for path in project.runs.glob("jobs/job-*/job.json") if '"job": "' in path.read_text()])
    (path,) = project.runs.glob("jobs/job-*")
    return JobDir(path)


def trains(job: JobDir, attempt: int = 0) -> RunDir:
    """The run of an attempt, once it has written two checkpoints."""

    def written() -> bool:
        runs = job.attempts()
        return len(runs) > attempt and len(runs[attempt].checkpoints_now.positions()) >= 2

    wait_for(written)
    return job.attempts()[attempt]


def resumed_once(job: JobDir, first: RunDir) -> ResumedRun:
    """Assert that the first attempt of a job was interrupted, and the second resumed it exactly; returns how."""
    attempts = job.attempts()
    assert [run.read().outcome.state for run in attempts] == [INTERRUPTED, FINISHED]
    resumes = attempts[1].read().origin.resumes
    assert resumes is not None
    assert (resumes.id, resumes.reproduced) == (first.path.name, True)
    return resumes
