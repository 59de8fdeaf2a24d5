"""Operations without a deterministic implementation: found in graphs, with layer and workaround or CPU time."""

import json
from pathlib import Path

import pytest

from support.command import call

_SCRIPT = """
import keras, numpy as np, tensorflow as tf


class Contrasted(keras.layers.Layer):
    def call(self, inputs):
        return tf.image.adjust_contrast(inputs, 2.0)


class Cropped(keras.layers.Layer):
    def call(self, inputs):
        boxes = tf.constant([[0.1, 0.1, 0.8, 0.9]])
        return tf.image.crop_and_resize(inputs, boxes, [0], [6, 6])


inputs = keras.Input((16, 16, 3), batch_size=4)
x = keras.layers.Conv2D(8, 3, name="seen")(Contrasted(name="contrasted")(inputs))
x = keras.layers.BatchNormalization(name="learning")(x)
x = Cropped(name="cropped")(x)
model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x), name="eyes")
model.compile("sgd", "mse")
model.fit(np.ones((64, 16, 16, 3)), np.ones((64, 8)), batch_size=4, verbose=0)
"""


@pytest.mark.usefixtures("locked")
def test_named_by_layer(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(_SCRIPT)
    arguments = ("check", "train.py", "--run", "--steps", "9", "--runtime", "venv")
    done = call(*arguments, "--format", "json", folder=tmp_path)
    assert done.status == 0, done.out + done.err  # they are deterministic on a CPU
    found = {item["operation"]: item for item in json.loads(done.out)["run"]["undetermined"]}
    layers = {name: item["layer"] for name, item in found.items()}
    assert layers == {
        "AdjustContrastv2": "contrasted",
        "CropAndResizeGradBoxes": "cropped",
        "CropAndResizeGradImage": "cropped",
    }
    assert all(item["gpu_only"] for item in found.values())
    assert found["CropAndResizeGradImage"]["way"] is None
    assert "RandomContrast" in found["AdjustContrastv2"]["way"]
    for name, item in found.items():
        assert item["seconds"] is None or 0 < item["seconds"] < 10, name
    assert found["AdjustContrastv2"]["seconds"]
    lines = call(*arguments, folder=tmp_path).out.splitlines()
    assert lines[1].startswith(
        "AdjustContrastv2 (layer contrasted) has no deterministic implementation on a GPU: compute (x - mean) * factor"
        " + mean, as keras.layers.RandomContrast does; on this CPU it takes "
    )
    assert lines[1].endswith(" ms")
    assert 'the only workaround is `with tf.device("CPU:0")`' in lines[2]
