"""The order of sums: fixed in a run, wherever TensorFlow gets a sum from, and left to timing without samebits."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from samebits.host.launch.venv import locked_python
from support.command import SCRIPTS, Project

pytestmark = pytest.mark.usefixtures("locked")


@pytest.fixture(scope="module")
def sources(locked: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Graphs that were saved without samebits."""
    assert locked is None
    folder = tmp_path_factory.mktemp("sums") / "sources"
    _bare(folder)
    return folder


def _bare(sources: Path) -> str:
    """Run the script as Python does, with TensorFlow's defaults but for determinism."""
    text = "import tensorflow as tf; tf.config.experimental.enable_op_determinism(); import runpy, sys\n"
    text += f"sys.argv[1:] = [{str(sources)!r}]; runpy.run_path({str(SCRIPTS / 'sums.py')!r}, run_name='__main__')"
    command = [str(locked_python()), "-c", text]
    environment = {"PATH": os.environ["PATH"], "HOME": str(sources.parent), "TF_NUM_INTEROP_THREADS": "2"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=600).stdout


def _answer(printed: str) -> dict[str, Any]:
    (line,) = [line for line in printed.splitlines() if line.startswith("sums ")]
    return dict(json.loads(line.removeprefix("sums ")))


def test_timing_decides_without_samebits(sources: Path) -> None:
    """Else the test below would show nothing."""
    found = _answer(_bare(sources))
    assert min(found["races"]) > 1
    assert [name for name, terms in found["terms"].items() if terms < 3 and name != "accumulate"] == []


@pytest.mark.parametrize("profile", ["native", "portable"])
def test_sums_have_an_order(project: Project, sources: Path, profile: str) -> None:
    shutil.copy(SCRIPTS / "sums.py", project.script)
    done = project.train("--profile", profile, "--", str(sources))
    assert done.status == 0, done.err
    found = _answer(done.out)
    assert found["races"] == [1, 1]
    assert [name for name, terms in found["terms"].items() if terms > 2] == []
    assert found["wrong"] == []
    record = project.only_run()
    (setting,) = [item for item in record.environment.settings or () if item.name == "order of sums"]
    assert (setting.asked, setting.found) == ("fixed", "fixed")
    assert record.environment.guarantee is not None
    assert [name for name in record.environment.guarantee.unproven or () if "Add" in name or "Acc" in name] == []


_TENSOR_ARRAY = """
import tensorflow as tf
with tf.Graph().as_default():
    handle, flow = tf.raw_ops.TensorArrayV3(size=3, dtype=tf.float32)
    tf.raw_ops.TensorArrayGradV3(handle=handle, flow_in=flow, source="gradients")
    terms = [tf.constant(number) for number in (1.0, 2.0, 3.0)]
    attributes = {"N": tf.compat.v1.AttrValue(i=3), "T": tf.compat.v1.AttrValue(type=tf.float32.as_datatype_enum)}
    tf.compat.v1.get_default_graph().create_op("AddN", terms, [tf.float32], attrs=attributes)
"""


@pytest.mark.parametrize("profile", ["native", "portable"])
def test_what_cannot_be_ordered_is_named(project: Project, profile: str) -> None:
    """A sum inside the runtime, and one that the script puts into its graph by itself."""
    project.write(_TENSOR_ARRAY)
    done = project.train("--profile", profile)
    assert done.status == 0, done.err
    named = ["AddN(3+) float32", "TensorArrayGradV3"]
    assert f"timing decides the order of these sums, and maybe the result: {', '.join(named)}" in done.err
    guarantee = project.only_run().environment.guarantee
    assert guarantee is not None
    assert guarantee.profile == "native"
    assert set(named) <= set(guarantee.unproven or ())


def test_a_script_that_undoes_it(project: Project) -> None:
    project.write(
        'import tensorflow as tf\ntf.config.optimizer.set_experimental_options({"arithmetic_optimization": True})\n'
    )
    done = project.train()
    assert (done.status, "order of sums was set to fixed but reads back as by timing" in done.err) == (2, True)
