"""Exact replacements for TensorFlow operations that approximate differently on each CPU; for the portable profile.

Exact means: composed of steps that every CPU rounds alike. It does not mean closer to the true value.

The x86 instructions for a reciprocal and a reciprocal square root (`rcpps`, `rsqrtps`) give about 12 bits, and these
differ between vendors. Eigen's kernels refine them by a Newton step, which leaves a difference in the last bit
(`Eigen/src/Core/arch/AVX/PacketMath.h`, `MathFunctionsImpl.h`). Its float32 `erfc` divides that way, too. IEEE 754
defines division and square root to the last bit, and up to AVX2 there is no such approximation in float64.

Grappler reintroduces the approximations, so three rewrites are switched off:

- Constant folding turns `1 / x` into `Reciprocal`, and `x / c` into a product with a reciprocal that the same kernel
  computes (`constant_folding.cc`).
- Arithmetic optimization turns a division by a square root into `Rsqrt` (`arithmetic_optimizer.cc`).
- Remapping replaces proven operations by fused ones (`remapper.cc`).

Eigen's QR decomposition, which orthogonal initialisers use, sizes its blocks by the CPU's caches. NumPy's is used.
"""

import math
from collections.abc import Callable
from typing import Any

from samebits.runner.compat.keras_private import qr_location
from samebits.runner.compat.patches import Patches
from samebits.runner.compat.tensorflow_private import math_locations

REWRITES: tuple[str, ...] = ("arithmetic_optimization", "constant_folding", "remapping")
"""Grappler's rewrites that are switched off."""


def switch_rewrites_off() -> None:
    """Switch off the Grappler rewrites that approximate. Call it before anything is computed."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options(dict.fromkeys(REWRITES, False))


def rewrites_are_off() -> bool:
    """Whether these rewrites are still off."""
    import tensorflow as tf

    # TensorFlow leaves out options that were never set; those are on.
    options = tf.config.optimizer.get_experimental_options()
    return not any(options.get(name, True) for name in REWRITES)


def install_exact_ops(patches: Patches) -> None:
    """Replace the operations wherever Keras and TensorFlow look them up. Call it before anything is computed."""
    for function in REPLACED:
        for module, name in math_locations(function.__name__):
            patches.replace(module, name, function)
    patches.wrap(qr_location(), _exact_qr)


def still_installed() -> bool:
    """Whether the exact operations are still in place."""
    import tensorflow as tf

    functions = (getattr(tf.nn if function is gelu else tf.math, function.__name__) for function in REPLACED)
    replaced = all(found is exact for found, exact in zip(functions, REPLACED, strict=True))
    return replaced and hasattr(getattr(*qr_location()), "exact")


def reciprocal(x: Any, name: str | None = None) -> Any:
    """Replaces `tf.math.reciprocal`: `1 / x` of any shape, rounded once. Integers use the original operation."""
    import tensorflow as tf

    with tf.name_scope(name or "Reciprocal"):
        x = tf.convert_to_tensor(x)
        # Division would turn integers into floats.
        if x.dtype.is_integer:
            return tf.raw_ops.Reciprocal(x=x)
        return tf.math.divide(tf.ones_like(x), x)


def rsqrt(x: Any, name: str | None = None) -> Any:
    """Replaces `tf.math.rsqrt`: `1 / sqrt(x)` of any shape, each step rounded once."""
    import tensorflow as tf

    with tf.name_scope(name or "Rsqrt"):
        return reciprocal(tf.sqrt(x))


def erfc(x: Any, name: str | None = None) -> Any:
    """Replaces `tf.math.erfc`: `1 - erf(x)` of any shape, computed in float64."""
    import tensorflow as tf

    with tf.name_scope(name or "Erfc"):
        x = tf.convert_to_tensor(x)
        return tf.cast(tf.raw_ops.Erfc(x=tf.cast(x, tf.float64)), x.dtype)


def gelu(features: Any, approximate: bool = False, name: str | None = None) -> Any:  # noqa: FBT001, FBT002  TensorFlow's own signature
    """Replaces `tf.nn.gelu`: the Gaussian error linear unit of any shape, by `erf` or by `tanh`.

    TensorFlow 2.21 uses `erfc`, earlier releases `erf`. `erf` is portable and costs half as much. It is less accurate
    for inputs far below zero, where the result is close to zero.
    """
    import tensorflow as tf

    with tf.name_scope(name or "Gelu"):
        x = tf.convert_to_tensor(features)
        if approximate:
            inner = math.sqrt(2 / math.pi) * (x + 0.044715 * tf.pow(x, 3))
            return 0.5 * x * (1.0 + tf.tanh(inner))
        return 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5)))


REPLACED: tuple[Callable[..., Any], ...] = (reciprocal, rsqrt, erfc, gelu)
"""The replacements. Each has the name of the TensorFlow function that it replaces."""


def _exact_qr(original: Callable[..., Any]) -> Callable[..., Any]:
    def qr(x: Any, mode: str = "reduced") -> Any:
        """Float32: NumPy's LAPACK in float64, then rounded. Other types, and graphs, use the original."""
        import numpy as np
        import tensorflow as tf

        # NumPy cannot run inside a graph. Initialisers run eagerly.
        x = tf.convert_to_tensor(x)
        if not tf.executing_eagerly() or x.dtype != tf.float32:
            return original(x, mode=mode)
        return tuple(tf.constant(part, x.dtype) for part in np.linalg.qr(x.numpy().astype("float64"), mode=mode))

    # `still_installed` looks for this mark.
    qr.exact = True  # type: ignore[attr-defined]
    return qr
