"""Exact forms of what TensorFlow computes by approximations that differ between CPUs; for the portable profile.

Exact means: made of steps that every CPU rounds alike; not: closer to the true value.

The x86 instructions for a reciprocal and for a reciprocal square root (`rcpps`, `rsqrtps`) give about 12 bits, and each
vendor other ones. Eigen's kernels refine them by a Newton step, which leaves the difference in the last bit
(`Eigen/src/Core/arch/AVX/PacketMath.h`, `MathFunctionsImpl.h`); its float32 `erfc` divides that way, too. Division and
square root are defined to the last bit by IEEE 754, and up to AVX2 there is no such approximation in float64.

Grappler brings the approximations back: constant folding turns `1 / x` into `Reciprocal`, and `x / c` into a product
with a reciprocal that it computes by that same kernel (`constant_folding.cc`); arithmetic optimization turns a division
by a square root into `Rsqrt` (`arithmetic_optimizer.cc`). So both rewritings are switched off; and remapping, which
puts fused operations in the place of those that were seen to be proven (`remapper.cc`).

Eigen's QR decomposition, which orthogonal initialisers draw on, sizes its blocks by the CPU's caches.
"""

import math
from collections.abc import Callable
from typing import Any

from samebits.runner.compat.keras_private import qr_location
from samebits.runner.compat.patches import Patches
from samebits.runner.compat.tensorflow_private import math_locations

REWRITES: tuple[str, ...] = ("arithmetic_optimization", "constant_folding", "remapping")
"""Grappler's rewritings that are switched off."""


def switch_rewrites_off() -> None:
    """Have Grappler leave graphs as they are where its forms approximate; before anything is computed."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options(dict.fromkeys(REWRITES, False))


def rewrites_are_off() -> bool:
    """Whether nobody switched them on again."""
    import tensorflow as tf

    options = tf.config.optimizer.get_experimental_options()
    return not any(options.get(name, True) for name in REWRITES)


def install(patches: Patches) -> None:
    """Put the exact forms in place, wherever Keras and TensorFlow look the others up; before anything is computed."""
    for function in REPLACED:
        for module, name in math_locations(function.__name__):
            patches.replace(module, name, function)
    patches.wrap(qr_location(), _exact_qr)


def still_installed() -> bool:
    """Whether nobody put the others back."""
    import tensorflow as tf

    functions = (getattr(tf.nn if function is gelu else tf.math, function.__name__) for function in REPLACED)
    replaced = all(found is ours for found, ours in zip(functions, REPLACED, strict=True))
    return replaced and hasattr(getattr(*qr_location()), "exact")


def reciprocal(x: Any, name: str | None = None) -> Any:
    """`1 / x` of any shape, rounded once; integers as they were. Takes the place of `tf.math.reciprocal`."""
    import tensorflow as tf

    with tf.name_scope(name or "Reciprocal"):
        x = tf.convert_to_tensor(x)
        if x.dtype.is_integer:
            return tf.raw_ops.Reciprocal(x=x)
        return tf.math.divide(tf.ones_like(x), x)


def rsqrt(x: Any, name: str | None = None) -> Any:
    """`1 / sqrt(x)` of any shape, each step rounded once; takes the place of `tf.math.rsqrt`."""
    import tensorflow as tf

    with tf.name_scope(name or "Rsqrt"):
        return reciprocal(tf.sqrt(x))


def erfc(x: Any, name: str | None = None) -> Any:
    """`1 - erf(x)` of any shape, computed in float64; takes the place of `tf.math.erfc`."""
    import tensorflow as tf

    with tf.name_scope(name or "Erfc"):
        x = tf.convert_to_tensor(x)
        return tf.cast(tf.raw_ops.Erfc(x=tf.cast(x, tf.float64)), x.dtype)


def gelu(features: Any, approximate: bool = False, name: str | None = None) -> Any:  # noqa: FBT001, FBT002  TensorFlow's own signature
    """The Gaussian error linear unit of any shape by `erf`, or by `tanh`; takes the place of `tf.nn.gelu`.

    TensorFlow 2.21 takes `erfc`; earlier releases took `erf`, which computes alike everywhere and costs half as much,
    but is less accurate far below zero, where the value is near it.
    """
    import tensorflow as tf

    with tf.name_scope(name or "Gelu"):
        x = tf.convert_to_tensor(features)
        if approximate:
            inner = math.sqrt(2 / math.pi) * (x + 0.044715 * tf.pow(x, 3))
            return 0.5 * x * (1.0 + tf.tanh(inner))
        return 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5)))


REPLACED: tuple[Callable[..., Any], ...] = (reciprocal, rsqrt, erfc, gelu)
"""The functions of TensorFlow that have an exact form here, under the names they have there."""


def _exact_qr(original: Callable[..., Any]) -> Callable[..., Any]:
    def qr(x: Any, mode: str = "reduced") -> Any:
        """In float64 by NumPy's LAPACK, rounded to float32; as it was for other types, and inside a graph."""
        import numpy as np
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        if not tf.executing_eagerly() or x.dtype != tf.float32:
            return original(x, mode=mode)
        return tuple(tf.constant(part, x.dtype) for part in np.linalg.qr(x.numpy().astype("float64"), mode=mode))

    qr.exact = True  # type: ignore[attr-defined]
    return qr
