"""Operations over many sizes, with their gradients, under the portable profile: `operations.py THREADS [PART]`.

PART, `cache sizes` or `exact operations`, is left out of the profile. Prints the results' digests as a line of JSON.
The sizes are those at which Eigen and oneDNN cut sums into blocks, or give parts of them to several threads.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from samebits.core.determinism_profile import Profile

threads, parts = int(sys.argv[1]), tuple(sys.argv[2:])
profile = Profile(name="portable", threads=1, without=parts)
object.__setattr__(profile, "threads", threads)
os.environ.update(profile.variables)

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from samebits.core.digest import Digest  # noqa: E402
from samebits.runner.compat.patches import Patches  # noqa: E402
from samebits.runner.determinism import settings  # noqa: E402
from samebits.runner.determinism.fingerprint import _Numbers, fingerprint  # noqa: E402

Operation = tuple[str, Callable[..., Any], tuple[Any, ...]]
numbers = _Numbers()

PRODUCTS = (
    *((8, 7, 5), (64, 256, 128), (17, 2000, 9), (1, 5000, 300), (128, 300, 128), (128, 1024, 1024), (300, 5000, 300)),
    *((16, 20000, 64), (512, 512, 512), (37, 3000, 1000), (1024, 64, 4096), (5000, 33, 7), (256, 4096, 1)),
    *((3, 10000, 3), (1, 30000, 2)),
)
BATCHES = ((8, 16, 8, 16), (2, 24, 1500, 9), (4, 128, 64, 128), (3, 200, 3000, 50), (1, 100, 10000, 100))
CONVOLUTIONS = (  # images, height and width, channels, kernel, filters, stride
    *((4, 14, 16, 3, 24, 1), (4, 14, 16, 1, 32, 1), (3, 11, 3, 5, 7, 1), (8, 56, 64, 3, 64, 1), (2, 30, 13, 3, 17, 1)),
    *((8, 28, 128, 3, 128, 2), (8, 56, 64, 1, 256, 1), (8, 7, 512, 3, 512, 1), (4, 112, 3, 7, 64, 2)),
    *((2, 32, 96, 5, 48, 1), (1, 224, 8, 3, 16, 1), (16, 8, 1024, 1, 256, 1), (8, 14, 256, 3, 256, 1)),
    (32, 14, 1024, 1, 512, 2),
)
ELEMENTWISE = (
    *(getattr(tf.math, name) for name in ("exp", "expm1", "tanh", "sigmoid", "erf", "erfc", "sin", "cos", "tan")),
    *(getattr(tf.nn, name) for name in ("softplus", "elu", "selu", "silu", "relu6", "gelu", "leaky_relu")),
)
POSITIVE = tuple(getattr(tf.math, name) for name in ("log", "log1p", "sqrt", "rsqrt", "reciprocal", "digamma"))
REDUCTIONS = (tf.reduce_sum, tf.reduce_mean, tf.math.reduce_variance, tf.reduce_logsumexp)
SOFTMAX = (tf.nn.softmax, tf.nn.log_softmax, partial(tf.math.l2_normalize, axis=1), tf.cumsum)


def some(*shape: int, **limits: Any) -> Any:
    """A tensor of numbers that are the same everywhere."""
    return tf.constant(numbers(*shape, **limits))


def products() -> Iterator[Operation]:
    """Sums of products, also longer than any block."""
    for rows, inner, columns in PRODUCTS:
        yield f"matmul {rows}x{inner}x{columns}", tf.matmul, (some(rows, inner), some(inner, columns))
    for batch, rows, inner, columns in BATCHES:
        pair = some(batch, rows, inner), some(batch, inner, columns)
        yield f"batch matmul {batch}x{rows}x{inner}x{columns}", tf.matmul, pair
        yield f"einsum {batch}x{rows}x{inner}x{columns}", partial(tf.einsum, "bqk,bkn->bqn"), pair
    yield "einsum to one number", partial(tf.einsum, "ij,ij->"), (some(500, 600), some(500, 600))
    yield "tensordot", partial(tf.tensordot, axes=[[1, 2], [0, 1]]), (some(20, 60, 70), some(60, 70, 33))


def convolutions() -> Iterator[Operation]:
    """Of two and three dimensions, transposed and by depth."""
    for batch, size, channels, kernel, filters, stride in CONVOLUTIONS:
        pair = some(batch, size, size, channels), some(kernel, kernel, channels, filters)
        name = f"conv2d {batch}x{size}x{size}x{channels} {kernel}x{kernel}x{filters}"
        yield name, partial(tf.nn.conv2d, strides=stride, padding="SAME"), pair
    for size, channels in ((8, 4), (16, 32)):
        pair = some(2, size, size, size, channels), some(3, 3, 3, channels, channels)
        yield f"conv3d {size} {channels}", partial(tf.nn.conv3d, strides=[1] * 5, padding="SAME"), pair
    for batch, size, channels in ((4, 14, 16), (8, 56, 144), (2, 112, 32)):
        pair = some(batch, size, size, channels), some(3, 3, channels, 1)
        depthwise = partial(tf.nn.depthwise_conv2d, strides=[1] * 4, padding="SAME")
        yield f"depthwise {batch}x{size}x{size}x{channels}", depthwise, pair
    transposed = partial(tf.nn.conv2d_transpose, output_shape=[4, 28, 28, 16], strides=2)
    yield "conv2d_transpose", transposed, (some(4, 14, 14, 32), some(3, 3, 16, 32))
    yield "max_pool", lambda x: tf.nn.max_pool2d(x, 2, 2, "SAME"), (some(8, 28, 28, 48),)
    yield "avg_pool", lambda x: tf.nn.avg_pool2d(x, 3, 2, "SAME"), (some(8, 28, 28, 48),)


def sums() -> Iterator[Operation]:
    """Over all, over rows, over columns; normalisation; what is scattered."""
    normalise = tf.compat.v1.nn.fused_batch_norm
    for rows, columns in ((640, 5000), (3001, 37)):
        x = some(rows, columns)
        for axis in (None, 0, 1):
            for reduce in REDUCTIONS:
                yield f"{reduce.__name__} {rows}x{columns} {axis}", partial(reduce, axis=axis), (x,)
        for number, function in enumerate(SOFTMAX):
            yield f"along rows {number} {rows}x{columns}", function, (x,)
        yield f"bias_add {rows}x{columns}", tf.nn.bias_add, (x, some(columns))
        groups = tf.range(rows) % 7
        scattered = partial(tf.math.unsorted_segment_sum, segment_ids=groups, num_segments=7)
        yield f"segments {rows}x{columns}", scattered, (x,)
        yield f"gather {rows}x{columns}", partial(tf.gather, indices=groups), (x,)
        labels = tf.range(rows) % columns
        entropy = partial(tf.nn.sparse_softmax_cross_entropy_with_logits, labels)
        yield f"cross entropy {rows}x{columns}", entropy, (x,)
    for channels, size in ((48, 28), (256, 14), (64, 112)):
        pair = some(8, size, size, channels), tf.ones(channels)
        yield f"fused_batch_norm {channels}", lambda x, y: normalise(x, y, y * 0, epsilon=0.001)[0], pair
    yield "sum of a million", tf.reduce_sum, (some(1_000_003),)


def others() -> Iterator[Operation]:
    """One value each; images; linear algebra."""
    x, positive, images = some(1_000_003), some(1_000_003, low=0), some(8, 28, 28, 48)
    yield from ((function.__name__, function, (x,)) for function in ELEMENTWISE)
    yield from ((function.__name__, function, (positive,)) for function in POSITIVE)
    for kind in ("bilinear", "bicubic"):
        yield f"resize {kind}", partial(tf.image.resize, size=(61, 57), method=kind), (images,)
    for size in (20, 200, 500):
        square = numbers(size, size)
        regular = tf.constant(square @ square.T + 400 * size * np.eye(size, dtype="float32"))
        yield f"cholesky {size}", tf.linalg.cholesky, (regular,)
        yield f"triangular_solve {size}", tf.linalg.triangular_solve, (regular, tf.constant(square))
        yield f"inverse {size}", tf.linalg.inv, (regular,)
    for name in ("normal", "truncated_normal", "uniform"):
        yield f"random {name}", partial(getattr(tf.random, f"stateless_{name}"), [300_007], (1, 2)), ()


def digests(function: Callable[..., Any], inputs: tuple[Any, ...]) -> Iterator[str]:
    """Of the result, and of the gradients by each input."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        result = function(*inputs)
    gradients = tape.gradient(result, inputs) if inputs else ()
    for tensor in (result, *map(tf.convert_to_tensor, gradients)):
        yield Digest.of_bytes(np.ascontiguousarray(tensor).tobytes()).hex[:16]


settings.seed_everything(0, profile, Patches())
found = fingerprint()
for group in (products, convolutions, sums, others):
    for name, function, inputs in group():
        found |= {f"{name}, part {part}": digest for part, digest in enumerate(digests(function, inputs))}
print(json.dumps(found))
