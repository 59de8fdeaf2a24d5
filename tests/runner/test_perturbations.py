"""A trial's perturbations change what the process sees, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from samebits.core.run_config import RunConfig
from samebits.core.trial import CLOCK, CORES, FOLDERS, HASH_SEED, HOST, MEMORY, PERTURBATIONS, USER, Trial
from samebits.host.launch.runtime import choose_runtime
from samebits.host.probe.experiment import Experiments
from support.command import Project

pytestmark = pytest.mark.cold

_REPORTS = """
import copy, datetime, getpass, glob, json, os, pathlib, pickle, platform, pwd, socket, sys, time
import numpy as np
import tensorflow as tf

data = os.environ["SAMEBITS_DATA"]
now = datetime.datetime.now()
reported = {
    "hash seed": [hash("a"), os.environ["PYTHONHASHSEED"]],
    "directory order": [
        os.listdir(data),
        [entry.name for entry in os.scandir(data)],
        [name for _, _, names in os.walk(data) for name in names],
        [pathlib.Path(path).name for path in glob.glob(data + "/*")],
        [path.name for path in pathlib.Path(data).iterdir()],
        [path.name for path in pathlib.Path(data).glob("*")],
        tf.io.gfile.listdir(data),
    ],
    "cores": [os.cpu_count(), len(os.sched_getaffinity(0))],
    "clock": [
        round(stamp / 36_000) for stamp in (
            time.time(), time.time_ns() / 1e9, time.mktime(time.localtime()), now.timestamp(),
            datetime.datetime.now(datetime.UTC).timestamp(), time.mktime(datetime.date.today().timetuple()),
            time.mktime(datetime.datetime.today().timetuple()), time.mktime(time.gmtime()),
        )
    ] + [time.strftime("%Y-%j"), time.ctime()[-4:] + time.asctime()[4:7]],
    "user": [getpass.getuser(), os.getuid(), os.path.expanduser("~"), os.environ.get("USER")],
    "host name": [socket.gethostname(), platform.node(), os.uname().nodename, socket.getfqdn()],
    "memory layout": [os.environ.get("PYTHONMALLOC")],
}
class Stamp(datetime.datetime):
    pass


assert type(now) is datetime.datetime and type(Stamp.now()) is Stamp and not isinstance(now, Stamp)
parsed = datetime.datetime.strptime("2020-01-02", "%Y-%m-%d")
ordinary = np.datetime64("2020-01-02T03:04").item()
for value in (now, parsed, ordinary, now.date(), datetime.date.today(), datetime.datetime.now(datetime.UTC)):
    assert pickle.loads(pickle.dumps(value)) == value and copy.deepcopy(value) == value, value
    assert isinstance(value, datetime.date)
assert ordinary < now and (now - ordinary).days > 2000 and np.datetime64(now) > np.datetime64(ordinary)
assert sorted(os.listdir(path=data)) == sorted(entry.name for entry in os.scandir(path=data))
assert pwd.getpwuid(os.getuid()).pw_dir
if socket.gethostname() == "another":  # a container without a network does not know its own
    socket.getaddrinfo("another", 80) and socket.gethostbyname("another")
assert isinstance(now, datetime.datetime) and isinstance(now, datetime.date)
assert isinstance(datetime.datetime(2020, 1, 2), datetime.datetime) and not isinstance(3, datetime.date)
assert issubclass(datetime.datetime, datetime.date)
assert os.path.isdir(os.path.expanduser("~"))
pathlib.Path(os.environ["SAMEBITS_OUTPUT"], "reported.json").write_text(json.dumps(reported))
"""
_PARTS = {HASH_SEED: 2, FOLDERS: 7, CORES: 2, CLOCK: 10, USER: 4, HOST: 4, MEMORY: 1}


def _reported(project: Project, runs: Path, *trials: Trial) -> list[dict[str, list[Any]]]:
    project.write(_REPORTS)
    spec = RunConfig(script=project.script, data=project.data, runtime=project.runtime)
    running = Experiments(spec, choose_runtime(spec), runs)
    reported = []
    for trial in trials:
        folder, record = running.run("a trial", trial)
        assert record.outcome.message is None, record.outcome
        assert record.trial == trial
        reported.append(json.loads((folder.outputs / "reported.json").read_text()))
    return reported


@pytest.fixture
def three_files(project: Project) -> Project:
    for name in ("one", "two", "three", "four"):
        (project.data / name).write_text(name)
    return project


def test_every_perturbation_changes_what_is_seen(three_files: Project, tmp_path: Path) -> None:
    first, other = _reported(three_files, tmp_path / "trials", Trial(), Trial(changed=PERTURBATIONS))
    for name, number in _PARTS.items():
        assert len(first[name]) == number
        for before, after in zip(first[name], other[name], strict=True):
            assert before != after, name
    assert [sorted(names) for names in first[FOLDERS]] == [sorted(names) for names in other[FOLDERS]]


@pytest.mark.parametrize("name", [FOLDERS, CLOCK])
def test_a_perturbation_changes_nothing_else(three_files: Project, tmp_path: Path, name: str) -> None:
    first, other = _reported(three_files, tmp_path / "trials", Trial(), Trial(changed=(name,)))
    home = slice(0, 2)  # a virtual environment's run has a home of its own each time
    first[USER], other[USER] = first[USER][home], other[USER][home]
    assert {part for part in first if first[part] != other[part]} == {name}


def test_in_a_container(three_files: Project, tmp_path: Path, engine: str) -> None:
    assert engine
    three_files.runtime = "docker"
    first, other = _reported(three_files, tmp_path / "trials", Trial(), Trial(changed=PERTURBATIONS))
    assert {name for name in first if any(map(_same, first[name], other[name]))} == set()


def _same(before: object, after: object) -> bool:
    return before == after


def test_a_setting_of_the_image_can_be_left_out(project: Project, tmp_path: Path, engine: str) -> None:
    assert engine
    project.runtime = "docker"
    project.write(
        "import os, pathlib\nnames = 'TF_ENABLE_ONEDNN_OPTS', 'OPENBLAS_NUM_THREADS'\n"
        "pathlib.Path(os.environ['SAMEBITS_OUTPUT'], 'found').write_text(str([*map(os.environ.get, names)]))\n"
    )
    spec = RunConfig(script=project.script, runtime="docker")
    trials = Experiments(spec, choose_runtime(spec), tmp_path / "trials")
    for without, expected in (((), "['1', '1']"), (("OPENBLAS_NUM_THREADS", "op determinism"), "['1', None]")):
        folder, record = trials.run("a trial", Trial(without=without))
        assert (folder.outputs / "found").read_text() == expected
        settings = {setting.name for setting in record.environment.settings or ()}
        assert ("op determinism" in settings) == (not without)
