"""A fingerprint of how this machine computes: about a hundred operations on fixed inputs, each with a digest.

A child process computes it. The child is forked after TensorFlow is imported and set up, and before it opens devices.
So the fingerprint needs no second import, uses the run's settings, draws from none of the run's generators, and leaves
the script free to configure devices. The child also reads back what only a computing process knows: oneDNN's
instruction set, from its first log line, and the sizes of the thread pools, from the threads that exist.
"""

import ctypes
import gc
import json
import os
import select
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest
from samebits.core.errors import SettingError
from samebits.core.jsonio import differing_names

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
FINGERPRINT_TIMEOUT = 600.0  # seconds; it takes half a second, and ten under emulation
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ISA = "onednn_verbose,v1,info,cpu,isa:"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """Digests (16 hex digits) by operation, oneDNN's name of its instruction set, and TensorFlow's two pool sizes."""

    operations: dict[str, str]
    onednn: str
    intra_threads: int
    inter_threads: int

    @property
    def digest(self) -> Digest:
        """One digest over all operations."""
        return Digest.of_json(self.operations)

    def differing(self, other: dict[str, str]) -> list[str]:
        """The operations whose digests differ, or that only one of the two has."""
        return differing_names(self.operations, other)


class FingerprintJob:
    """A child process that computes a fingerprint in the background. It dies with its parent."""

    def __init__(self) -> None:
        reading, writing = os.pipe()
        # Until the child ignores signals, it would handle them as its parent does.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            # Python warns of a fork where a library has started threads.
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                self._process = os.fork()
            if self._process == 0:
                _child_main(reading, writing)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        os.close(writing)
        self._pipe = reading

    def finish(self) -> Fingerprint:
        """Wait for the fingerprint. Raises SettingError where the child fails or exceeds the timeout."""
        answer = b""
        with os.fdopen(self._pipe, "rb", buffering=0) as pipe:
            deadline = time.monotonic() + FINGERPRINT_TIMEOUT
            while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                part = pipe.read(1 << 16)
                if not part:
                    break
                answer += part
            else:
                os.kill(self._process, signal.SIGKILL)
        status: object = "unknown"
        # A script that waits for any of its children may have reaped this one.
        with suppress(ChildProcessError):
            status = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
        try:
            return Fingerprint(**json.loads(answer))
        except (ValueError, TypeError) as error:
            output = answer.decode(errors="replace") or "none"
            raise SettingError(
                f"the fingerprint of this machine could not be computed (status {status}, output: {output}); run again,"
                " and report it if it fails again"
            ) from error


def _child_main(reading: int, writing: int) -> None:
    """Compute the fingerprint, write it to the pipe and exit."""
    try:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # the parent decides, also on Ctrl-C
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        gc.disable()  # a search would copy the memory of all objects, which is shared until it is written to
        os.close(reading)
        # oneDNN prints its instruction set to stdout.
        printed = os.memfd_create("printed")
        os.dup2(printed, 1)
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        _hide_gpus()
        os.environ["ONEDNN_VERBOSE"] = "1"
        threads_before = _count_threads()
        answer: dict[str, Any] = {"operations": fingerprint()}
        started = _count_threads() - threads_before
        answer["inter_threads"] = started.pop("tf_Compute", 0)
        answer["intra_threads"] = sum(count for name, count in started.items() if not name.startswith("tf_"))
        os.lseek(printed, 0, os.SEEK_SET)
        with os.fdopen(printed, "r", encoding="utf-8", errors="replace") as lines:
            answer["onednn"] = next(
                (line.removeprefix(_ISA).strip() for line in lines if line.startswith(_ISA)), "none"
            )
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(answer).encode())
    except BaseException as error:  # noqa: BLE001  the parent reports it, whatever it is
        os.write(writing, repr(error).encode())
    finally:
        os._exit(0)


def _hide_gpus() -> None:
    """Keep off the GPU: the fingerprint is of the CPU, and the run needs the GPU's memory."""
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")


def _count_threads() -> Counter[str]:
    """How many threads of each name this process has. TensorFlow's intra-op threads have the process's name."""
    found: Counter[str] = Counter()
    for thread in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError):  # it has ended
            found[Path(f"/proc/self/task/{thread}/comm").read_text().strip()] += 1
    return found


def fingerprint() -> dict[str, str]:
    """Compute every operation. Returns 16 hex digits of the sha256 over each result's bytes."""
    import numpy as np

    found = {}
    for name, computed in _compute_operations():
        arrays = [np.asarray(array) for array in _flat(computed)]
        found[name] = Digest.of_bytes(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hex[:16]
    return found


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _flat(item)
    else:
        yield value


class _Numbers:
    """Inputs that are the same on every machine: multiples of 2**-16 from PCG64, which computes with integers."""

    def __init__(self) -> None:
        import numpy as np

        self._generator = np.random.Generator(np.random.PCG64(20))

    def __call__(self, *shape: int, low: float = -4.0, high: float = 4.0, dtype: str = "float32") -> Any:
        """An array of values above `low`, up to and including `high`."""
        return (high - self._generator.integers(0, int((high - low) * 65536), size=shape) / 65536).astype(dtype)


Operation = tuple[str, Any]
"""A name, and its computed arrays."""


def _compute_operations() -> Iterator[Operation]:
    numbers = _Numbers()
    for kind in ("float32", "float64"):
        for name, computed in _numpy_operations(numbers, kind):
            yield f"numpy.{name} {kind}", computed
    yield from _numpy_random()
    for operations in (_elementwise, _products, _reductions, _convolutions, _images, _random, _graph):
        for name, computed in operations(numbers):
            yield f"tf.{name}", computed


def _numpy_operations(numbers: _Numbers, kind: str) -> Iterator[Operation]:
    import numpy as np

    x, above = numbers(1003, dtype=kind), numbers(1003, low=0, dtype=kind)
    a, b, square = numbers(61, 83, dtype=kind), numbers(83, 47, dtype=kind), numbers(24, 24, dtype=kind)
    for name in ("exp", "expm1", "sin", "cos", "tan", "tanh", "arctan", "cbrt"):
        yield name, getattr(np, name)(x)
    for name in ("log", "log1p", "log2", "sqrt"):
        yield name, getattr(np, name)(above)
    yield "power", above**1.37
    yield "sum", [x.sum(), a.sum(0), a.sum(1), a.std(0), np.cumsum(x)]
    yield "matmul", [a @ b, a @ a.T, a @ b[:, 0], np.dot(x, x[::-1])]
    yield "einsum", np.einsum("ij,ij->", a, a)
    yield "linalg.qr", np.linalg.qr(square)[1]
    yield "linalg.svd", np.linalg.svd(square)[1]
    yield "linalg.solve", np.linalg.solve(square, square[0])
    yield "fft", np.fft.fft(x)
    yield "argsort", np.argsort(np.round(x))


def _numpy_random() -> Iterator[Operation]:
    import numpy as np

    generator = np.random.Generator(np.random.PCG64(3))
    yield "numpy.random.normal", generator.normal(size=300)
    yield "numpy.random.gamma", generator.gamma(2.0, size=300)
    yield "numpy.random.permutation", generator.permutation(300)


def _elementwise(numbers: _Numbers) -> Iterator[Operation]:
    import tensorflow as tf

    x, above = tf.constant(numbers(1003)), tf.constant(numbers(1003, low=0))
    for name in ("exp", "expm1", "tanh", "sigmoid", "erf", "erfc", "sin", "cos"):
        yield name, _with_gradient(getattr(tf.math, name), x)
    for name in ("softplus", "elu", "selu", "silu", "relu6", "gelu"):
        yield name, _with_gradient(getattr(tf.nn, name), x)
    yield "gelu by tanh", _with_gradient(partial(tf.nn.gelu, approximate=True), x)
    for name in ("log", "log1p", "sqrt", "rsqrt", "reciprocal", "lgamma", "digamma"):
        yield name, _with_gradient(getattr(tf.math, name), above)
    yield "pow", _with_gradient(lambda x: tf.pow(x, 1.3), above)
    yield "divide", x / above


def _with_gradient(function: Callable[..., Any], *inputs: Any) -> list[Any]:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        answer = function(*inputs)
    return [answer, *(tf.convert_to_tensor(gradient) for gradient in tape.gradient(answer, inputs))]


def _products(numbers: _Numbers) -> Iterator[Operation]:
    import tensorflow as tf

    for rows, inner, columns in ((8, 7, 5), (64, 256, 128), (33, 513, 65), (1, 1000, 10), (17, 2000, 9)):
        a, b = tf.constant(numbers(rows, inner)), tf.constant(numbers(inner, columns))
        yield f"matmul {rows}x{inner}x{columns}", _with_gradient(tf.matmul, a, b)
    heads = tf.constant(numbers(4, 16, 2, 8))
    yield "einsum", _with_gradient(lambda x: tf.einsum("bqhd,bkhd->bhqk", x, x), heads)
    a, b = tf.constant(numbers(2, 24, 2, 1500)), tf.constant(numbers(2, 9, 1500, 11))
    yield "einsum, long sums", _with_gradient(lambda x: tf.einsum("bqhd,bkhd->bhqk", x, x), a)
    yield "batch matmul, long sums", _with_gradient(lambda x: tf.matmul(x, x, transpose_a=True), b)
    double, square = tf.constant(numbers(40, 60, dtype="float64")), tf.constant(numbers(20, 20))
    yield "matmul float64", tf.matmul(double, double, transpose_b=True)
    yield "cholesky", tf.linalg.cholesky(tf.matmul(square, square, transpose_b=True) + 400 * tf.eye(20))


def _reductions(numbers: _Numbers) -> Iterator[Operation]:
    import tensorflow as tf

    x, images = tf.constant(numbers(64, 500)), tf.constant(numbers(4, 9, 9, 8))
    labels = tf.constant([number % 500 for number in range(64)])
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits
    yield "reduce_sum", [tf.reduce_sum(x), tf.reduce_sum(x, 0), tf.reduce_sum(x, 1)]
    yield "reduce_mean", [tf.reduce_mean(images, [0, 1, 2]), tf.math.reduce_variance(x, 0)]
    yield "reduce_logsumexp", tf.reduce_logsumexp(x, 1)
    yield "softmax", _with_gradient(tf.nn.softmax, x)
    yield "log_softmax", _with_gradient(tf.nn.log_softmax, x)
    yield "cross entropy", _with_gradient(lambda x: entropy(labels=labels, logits=x), x)
    yield "l2_normalize", _with_gradient(lambda x: tf.math.l2_normalize(x, 1), x)
    yield "cumsum", tf.cumsum(x, 1)
    yield "segment_sum", tf.math.unsorted_segment_sum(x, labels % 7, 7)
    yield "gather", _with_gradient(lambda x: tf.gather(x, labels % 9), x)
    yield "sort", [tf.sort(x, 1), tf.math.top_k(tf.round(x), 50).indices]
    yield "rfft", tf.signal.rfft(x)


def _convolutions(numbers: _Numbers) -> Iterator[Operation]:
    import tensorflow as tf

    images, odd = tf.constant(numbers(4, 14, 14, 16)), tf.constant(numbers(3, 11, 9, 3))
    for name, x, kernel, stride, padding in (
        ("3x3", images, (3, 3, 16, 24), 1, "SAME"),
        ("3x3, stride 2", images, (3, 3, 16, 8), 2, "VALID"),
        ("1x1", images, (1, 1, 16, 32), 1, "SAME"),
        ("5x5, 3 channels", odd, (5, 5, 3, 7), 1, "SAME"),
    ):
        convolve = partial(tf.nn.conv2d, strides=stride, padding=padding)
        yield f"conv2d {name}", _with_gradient(convolve, x, tf.constant(numbers(*kernel)))
    convolve = partial(tf.nn.depthwise_conv2d, strides=[1, 1, 1, 1], padding="SAME")
    yield "depthwise_conv2d", _with_gradient(convolve, images, tf.constant(numbers(3, 3, 16, 1)))
    yield "max_pool2d", _with_gradient(lambda x: tf.nn.max_pool2d(x, 2, 2, "SAME"), images)
    yield "avg_pool2d", _with_gradient(lambda x: tf.nn.avg_pool2d(x, 3, 2, "SAME"), images)


def _images(numbers: _Numbers) -> Iterator[Operation]:
    import tensorflow as tf

    x = tf.constant(numbers(4, 14, 14, 16))
    normalise = tf.compat.v1.nn.fused_batch_norm
    yield (
        "fused_batch_norm",
        _with_gradient(lambda x, scale: normalise(x, scale, scale * 0, epsilon=0.001)[0], x, tf.ones(16)),
    )
    yield "resize bilinear", tf.image.resize(x, (23, 21))
    yield "resize bicubic", tf.image.resize(x, (23, 21), "bicubic")
    yield "rgb_to_hsv", tf.image.rgb_to_hsv(tf.constant(numbers(2, 9, 9, 3, low=0, high=1)))


def _random(_numbers: _Numbers) -> Iterator[Operation]:
    import keras
    import tensorflow as tf

    seed = (1, 2)
    yield "random.stateless_normal", tf.random.stateless_normal([1003], seed)
    yield "random.stateless_truncated_normal", tf.random.stateless_truncated_normal([1003], seed)
    yield "random.stateless_uniform", tf.random.stateless_uniform([1003], seed)
    yield "random.stateless_gamma", tf.random.stateless_gamma([303], seed, 2.0)
    yield "keras orthogonal", keras.initializers.Orthogonal(seed=1)((24, 16))


def _graph(numbers: _Numbers) -> Iterator[Operation]:
    """Expressions that Grappler may rewrite, in one graph."""
    import tensorflow as tf

    def compute(x: Any) -> dict[str, Any]:
        variance = tf.math.reduce_variance(x, 1, keepdims=True)
        centred = x - tf.reduce_mean(x, 1, keepdims=True)
        return {
            "1/x": 1.0 / x,
            "1/sqrt(x)": 1.0 / tf.sqrt(x),
            "x/3": x / 3.0,
            "x/255": x / 255.0,
            "layer norm": centred * tf.math.rsqrt(variance + 0.001),
            "gelu": tf.nn.gelu(x),
            "gelu by tanh": tf.nn.gelu(x, approximate=True),
        }

    for name, computed in tf.function(compute)(tf.constant(numbers(17, 59, low=0))).items():
        yield f"graph {name}", computed
