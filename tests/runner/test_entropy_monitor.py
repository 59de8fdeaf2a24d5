"""Unseeded randomness: recorded in every run with its call site, and an error in a strict run."""

import json
from pathlib import Path

import pytest

from samebits.core.record import read_record
from samebits.runner.determinism.entropy_monitor import EntropyMonitor
from support.command import DATA, Project, call

_UNSEEDED = """
import os, random, secrets, tempfile, uuid
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf


@dataclass
class Held:
    rng: object = field(default_factory=np.random.default_rng)


@tf.function
def noisy(x):
    if tf.reduce_sum(x) > 0:
        x = x * np.random.default_rng().normal()
    return x


Held()
noisy(tf.ones([3]))
for _ in range(3): os.urandom(3)
random.Random(); random.seed(); np.random.RandomState()
secrets.token_hex(3)
uuid.uuid1(); uuid.uuid4()
if os.fork() == 0:
    os.getrandom(2)
    os._exit(0)
os.wait()
"""
_SEEDED = """
import copy, os, pickle, random, tempfile

import keras
import numpy as np

rng = np.random.default_rng(3)
copy.deepcopy(random.Random(3)).random()
pickle.loads(pickle.dumps(random.Random(3)))
np.random.RandomState(3).normal()
state, seed = np.random.RandomState, 4
state(
    seed=seed,
)
random.seed(5)
np.random.seed(5)
np.random.normal(size=3)
tempfile.mkdtemp()
keras.layers.Dense(3).build((None, 2))
assert pickle.loads(pickle.dumps([os.urandom, os.getrandom, random.seed, random.Random.seed])) == [
    os.urandom, os.getrandom, random.seed, random.Random.seed
]


class Own(random.Random):
    pass


assert Own(4).random() == random.Random(4).random()
"""
_USES = [
    (17, "x = x * np.random.default_rng().normal()", 1),
    (21, "Held()", 1),
    (23, "os.urandom(3)", 3),
    (24, "np.random.RandomState()", 1),
    (24, "random.Random()", 1),
    (24, "random.seed()", 1),
    (25, "secrets.token_hex(3)", 1),
    (26, "uuid.uuid1()", 1),
    (26, "uuid.uuid4()", 1),
    (28, "os.getrandom(2)", 1),
]


def test_every_place_is_recorded(project: Project) -> None:
    project.write(_UNSEEDED)
    done = project.train()
    assert done.status == 0, done.err
    record = project.only_run()
    assert [(use.line, use.call, use.times) for use in record.entropy] == _USES
    assert {use.path for use in record.entropy} == {"train.py"}
    assert "train.py:25: secrets.token_hex(3) draws unseeded randomness" in done.err
    assert done.err.count("train.py:23:") == 1
    shown = call("show", "last", folder=project.folder).out
    assert "train.py:23: os.urandom(3) (3 times)" in shown


def test_what_is_seeded_is_not(project: Project) -> None:
    project.write(_SEEDED)
    assert project.train("--strict").status == 0
    record = project.only_run()
    assert record.entropy == ()
    assert record.environment.entropy == ()
    assert record.strict


@pytest.mark.parametrize("place", ["options", "samebits.toml"])
def test_strict(project: Project, place: str) -> None:
    """The run fails, even where the script swallows the error."""
    project.write("import os\ntry:\n    os.urandom(3)\nexcept Exception:\n    pass\nprint('went on')\nimport uuid\n")
    if place == "samebits.toml":
        (project.folder / "samebits.toml").write_text("strict = true\n")
    done = project.train(*(["--strict"] if place == "options" else []))
    assert done.status == 2
    assert done.err.endswith(
        "samebits: train.py:3: os.urandom(3) draws unseeded randomness, and the run is strict; pass a seed,"
        " or drop --strict\n"
    )
    record = project.only_run()
    assert record.outcome.state == "failed"
    assert [use.line for use in record.entropy] == [3]


def test_strict_in_a_forked_process(project: Project) -> None:
    """The child fails. The run fails too, although the parent continues."""
    project.write(
        "import multiprocessing, os\n"
        "multiprocessing.get_context('fork').Process(target=lambda: os.urandom(3)).start()\n"
    )
    done = project.train("--strict")
    assert done.status == 2
    assert "train.py:2: os.urandom(3) draws unseeded randomness, and the run is strict" in done.err
    assert project.only_run().outcome.state == "failed"


def test_many_times(project: Project) -> None:
    """All calls of the script's own process are counted, and the first thousand of a forked one."""
    project.write(
        "import os\nif os.fork() == 0:\n    for _ in range(3000): os.urandom(1)\n    os._exit(0)\nos.wait()\n"
        "for _ in range(20_000): os.urandom(1)\n"
    )
    assert project.train().status == 0
    assert [(use.line, use.times) for use in project.only_run().entropy] == [(3, 1000), (6, 20_000)]


def test_a_verification_names_it(project: Project) -> None:
    """`verify` names the line that makes two runs of one recipe differ."""
    project.write(
        "import os\nimport numpy as np\n"
        "np.save(os.path.join(os.environ['SAMEBITS_OUTPUT'], 'x'), np.random.default_rng().normal(size=3))\n"
    )
    assert project.train().status == 0
    done = call("verify", "last", folder=project.folder)
    assert done.status == 1
    assert "the script draws unseeded randomness: train.py:3: np.random.default_rng()" in done.out


def test_a_module_of_the_script(tmp_path: Path) -> None:
    """A call's text comes from its own file. Of a call over several lines, the first is recorded."""
    monitor = EntropyMonitor(tmp_path)
    watched = monitor._watched(lambda *_: 3, "noise", "watched")
    code = tmp_path / "parts" / "noise.py"
    code.parent.mkdir()
    code.write_text('text = "ü"; watched(\n    4,\n)\n')
    exec(compile(code.read_text(), str(code), "exec"), {"watched": watched})
    assert [use.to_dict() for use in monitor.found()] == [
        {"path": "parts/noise.py", "line": 1, "call": "watched(", "times": 1}
    ]


def test_a_library_is_not_the_script(tmp_path: Path) -> None:
    monitor = EntropyMonitor(tmp_path / "code")
    monitor._watched(lambda: 3, "noise", "watched")()
    assert monitor.found() == []


def test_the_record_holds_it() -> None:
    path = DATA / "record-1.3.json"
    record = read_record(path)
    assert [str(use) for use in record.entropy] == ["train.py:5: np.random.default_rng()"]
    assert record.strict is False
    assert json.loads(path.read_text())["trial"] is None
