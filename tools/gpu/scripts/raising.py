"""Which operations raise an error under op determinism: each of the runner's table, executed once with small inputs."""

import json
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from samebits.runner.determinism.nondeterministic_ops import OPERATIONS

raw = tf.raw_ops
IMAGE = tf.reshape(tf.range(2 * 6 * 6 * 3, dtype=tf.float32) / 100, (2, 6, 6, 3))
BOXES = tf.constant([[0.1, 0.1, 0.9, 0.9]])
NUMBERS = tf.constant([1, 2, 2, 3])
KERNEL = tf.ones((3, 3, 3))
VECTOR = tf.ones(3)
ONES = [1, 1, 1, 1]


def batch_norm(name: str, **more: Any) -> Any:
    """The gradient of batch normalization with frozen statistics."""
    return getattr(raw, name)(
        y_backprop=IMAGE,
        x=IMAGE,
        scale=VECTOR,
        reserve_space_1=VECTOR,
        reserve_space_2=VECTOR,
        epsilon=0.001,
        data_format="NHWC",
        is_training=False,
        **more,
    )


def dilation(name: str) -> Any:
    """A gradient of a morphological dilation."""
    out = raw.Dilation2D(input=IMAGE, filter=KERNEL, strides=ONES, rates=ONES, padding="VALID")
    return getattr(raw, name)(input=IMAGE, filter=KERNEL, out_backprop=out, strides=ONES, rates=ONES, padding="VALID")


def max_pool() -> Any:
    """The gradient of max pooling with indices."""
    pool = {"ksize": [1, 2, 2, 1], "strides": [1, 2, 2, 1], "padding": "VALID"}
    out, where = raw.MaxPoolWithArgmax(input=IMAGE, **pool)
    return raw.MaxPoolGradWithArgmax(input=IMAGE, grad=out, argmax=where, **pool)


CALLS: dict[str, Callable[[], Any]] = {
    "AdjustContrastv2": lambda: raw.AdjustContrastv2(images=IMAGE, contrast_factor=1.5),
    "Bincount": lambda: raw.Bincount(arr=NUMBERS, size=5, weights=tf.ones(4)),
    "CropAndResizeGradBoxes": lambda: raw.CropAndResizeGradBoxes(
        grads=tf.ones((1, 4, 4, 3)), image=IMAGE, boxes=BOXES, box_ind=[0]
    ),
    "CropAndResizeGradImage": lambda: raw.CropAndResizeGradImage(
        grads=tf.ones((1, 4, 4, 3)), boxes=BOXES, box_ind=[0], image_size=[2, 6, 6, 3], T=tf.float32
    ),
    "DenseBincount": lambda: raw.DenseBincount(input=NUMBERS, size=5, weights=tf.ones(4)),
    "DepthwiseConv2dNativeBackpropFilter": lambda: raw.DepthwiseConv2dNativeBackpropFilter(
        input=IMAGE, filter_sizes=[3, 3, 3, 1], out_backprop=IMAGE, strides=ONES, padding="SAME"
    ),
    "Dilation2DBackpropFilter": lambda: dilation("Dilation2DBackpropFilter"),
    "Dilation2DBackpropInput": lambda: dilation("Dilation2DBackpropInput"),
    "FakeQuantWithMinMaxVarsGradient": lambda: raw.FakeQuantWithMinMaxVarsGradient(
        gradients=IMAGE, inputs=IMAGE, min=0.0, max=1.0
    ),
    "FakeQuantWithMinMaxVarsPerChannelGradient": lambda: raw.FakeQuantWithMinMaxVarsPerChannelGradient(
        gradients=IMAGE, inputs=IMAGE, min=tf.zeros(3), max=VECTOR
    ),
    "FusedBatchNormGrad": lambda: batch_norm("FusedBatchNormGrad"),
    "FusedBatchNormGradV2": lambda: batch_norm("FusedBatchNormGradV2"),
    "FusedBatchNormGradV3": lambda: batch_norm("FusedBatchNormGradV3", reserve_space_3=VECTOR),
    "MaxPoolGradWithArgmax": max_pool,
    "ResizeNearestNeighborGrad": lambda: raw.ResizeNearestNeighborGrad(grads=IMAGE, size=[3, 3]),
    "SparseTensorDenseMatMul": lambda: raw.SparseTensorDenseMatMul(
        a_indices=tf.constant([[0, 1], [1, 0]], tf.int64),
        a_values=tf.ones(2),
        a_shape=tf.constant([2, 2], tf.int64),
        b=tf.ones((2, 2)),
    ),
    "Timestamp": raw.Timestamp,
}

tf.config.experimental.enable_op_determinism()
tf.random.set_seed(0)
on_gpu = bool(tf.config.list_physical_devices("GPU"))
found: dict[str, dict[str, Any]] = {}
for name in sorted({*OPERATIONS, *CALLS}):
    if name not in CALLS:
        found[name] = {"raised": None, "message": "the kit has no call for it"}
        continue
    try:
        CALLS[name]()
        found[name] = {"raised": False, "message": ""}
    except Exception as error:  # noqa: BLE001  whatever it raises is the finding
        found[name] = {"raised": True, "message": " ".join(str(error).split())[:300]}
    known = OPERATIONS.get(name)
    found[name]["expected"] = known is not None and (on_gpu or not known.gpu_only)
unlike = sorted(name for name, item in found.items() if item["raised"] != item.get("expected"))
print(json.dumps({"on_gpu": on_gpu, "operations": found, "unlike_the_table": unlike}))
