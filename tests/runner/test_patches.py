"""A session undoes its patches at its end: two in one process give the same results, and leave nothing patched."""

from typing import Any

import pytest

from samebits.core.record import Resumability
from samebits.core.trace_level import Trace
from samebits.core.trial import CLOCK, CORES, FOLDERS, HOST, USER, Trial
from support.command import Project
from support.sessions import run_sessions

pytestmark = pytest.mark.usefixtures("locked")

_LOOP = """
optimizer = keras.optimizers.SGD(0.1)
inner = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1, "gelu", name="outer")])
rows = tf.data.Dataset.from_tensor_slices((table[:, :3], table[:, 3:])).shuffle(8).batch(8)
for _ in samebits.checkpoint(range(2), inner, optimizer, rows):
    for x, y in rows:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((inner(x) - y) ** 2)
        optimizer.apply(tape.gradient(loss, inner.trainable_variables), inner.trainable_variables)
"""


def _with_a_loop(project: Project) -> None:
    project.write("import samebits\nimport tensorflow as tf\n" + project.script.read_text() + _LOOP)


def test_a_second_session_in_a_process_gives_the_same_result(project: Project) -> None:
    _with_a_loop(project)
    changed = Trial(changed=(FOLDERS, CORES, CLOCK, USER, HOST))
    cases: tuple[dict[str, Any], ...] = (
        {},
        {"trace": Trace(level="tensor")},
        {"trial": changed},
        {"trace": Trace(level="tensor")},
        {},
    )
    done, err = run_sessions(project, *cases)
    assert [(one.status, one.left) for one in done] == [(0, [])] * len(cases), err
    assert done[-1].patched > 50
    assert len({str(one.record.result_digest) for one in done}) == 1
    assert done[1].lines() == done[3].lines()
    assert {step["event"] for step in done[1].lines()} >= {"step", "epoch", "round", "end"}
    assert [one.record.resumable for one in done[:2]] == [Resumability(resumable=True)] * 2


def test_a_second_portable_session_in_a_process_gives_the_same_result(project: Project) -> None:
    _with_a_loop(project)
    done, err = run_sessions(project, {}, {}, profile="portable")
    assert [(one.status, one.left) for one in done] == [(0, [])] * 2, err
    assert done[0].record.result_digest == done[1].record.result_digest
    assert [one.record.environment.guarantee for one in done[:1]] == [done[1].record.environment.guarantee]
