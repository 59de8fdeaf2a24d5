"""Which scripts are run in the scope of one strategy."""

from pathlib import Path

import pytest

from samebits.runner.workers.whole_script import distributes_itself


@pytest.mark.parametrize(
    ("text", "itself"),
    [
        ("import keras\nmodel.fit(x, y)\n", False),
        ("# evenly distributed data\n", False),
        ("strategy = tf.distribute.MirroredStrategy()\n", True),
        ("from tensorflow.distribute import get_strategy\n", True),
        ("from helpers import MultiWorkerMirroredStrategy as S\n", True),
        ("os.environ['TF_CONFIG']\n", True),
    ],
)
def test_a_script_that_distributes_itself(tmp_path: Path, text: str, itself: bool) -> None:
    (tmp_path / "train.py").write_text("import helper\n")
    (tmp_path / "notes.txt").write_text("tf.distribute\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "helper.py").write_text(text)
    assert distributes_itself(tmp_path) == itself
