"""A fingerprint of how this machine computes: about a hundred operations of fixed inputs, each with a digest.

It is taken in a process of its own, forked after TensorFlow was imported and set up, and before it opened its devices:
so it costs no second import, computes with the run's own settings, draws from no generator of the run, and leaves the
script free to configure devices. What can only be asked while TensorFlow computes is read back there, too: oneDNN's
instruction set, from the first line that it prints, and the sizes of the thread pools, from the threads there are.
"""

import ctypes
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
FINGERPRINT_TIMEOUT = 600.0  # seconds for what takes half of one, and ten under emulation
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ISA = "onednn_verbose,v1,info,cpu,isa:"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """Digests (16 hex) by operation; what oneDNN calls its instruction set; the threads of TensorFlow's two pools."""

    operations: dict[str, str]
    onednn: str
    intra_threads: int
    inter_threads: int

    @property
    def digest(self) -> Digest:
        """Names all of them."""
        return Digest.of_json(self.operations)

    def differing(self, other: dict[str, str]) -> list[str]:
        """The operations that have another digest there, or that only one of the two knows."""
        return differing_names(self.operations, other)


class FingerprintJob:
    """The process that takes a fingerprint; it works while we go on, and ends with us."""

    def __init__(self) -> None:
        reading, writing = os.pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # or the child would answer them as if it were us
        try:
            with warnings.catch_warnings(
                action="ignore", category=DeprecationWarning
            ):  # of threads that others started
                self._process = os.fork()
            if self._process == 0:
                _take(reading, writing)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(writing)
        self._pipe = reading

    def finish(self) -> Fingerprint:
        """Wait for it; raises SettingError where it ended without an answer, or gives none in time."""
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
        with suppress(ChildProcessError):  # a script that waits for any child may have waited for this one
            status = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
        try:
            return Fingerprint(**json.loads(answer))
        except (ValueError, TypeError) as error:
            said = answer.decode(errors="replace") or "nothing"
            raise SettingError(
                f"the fingerprint of this machine could not be taken (status {status}, it said {said}); run again, and"
                " report it if that does not help"
            ) from error


def _take(reading: int, writing: int) -> None:
    """The whole life of the process."""
    try:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # of Ctrl-C, too, our parent decides
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(reading)
        printed = os.memfd_create("printed")
        os.dup2(printed, 1)
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        _hide_gpus()
        os.environ["ONEDNN_VERBOSE"] = "1"
        before = _threads()
        answer: dict[str, Any] = {"operations": fingerprint()}
        started = _threads() - before
        answer["inter_threads"] = started.pop("tf_Compute", 0)
        answer["intra_threads"] = sum(count for name, count in started.items() if not name.startswith("tf_"))
        os.lseek(printed, 0, os.SEEK_SET)
        with os.fdopen(printed, "r", encoding="utf-8", errors="replace") as lines:
            answer["onednn"] = next(
                (line.removeprefix(_ISA).strip() for line in lines if line.startswith(_ISA)), "none"
            )
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(answer).encode())
    except BaseException as error:  # noqa: BLE001  whatever it is, the other side says it
        os.write(writing, repr(error).encode())
    finally:
        os._exit(0)


def _hide_gpus() -> None:
    """The fingerprint is of the CPU, and the run wants the GPU's memory."""
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")


def _threads() -> Counter[str]:
    """How many threads of each name this process has; those of TensorFlow's intra-op pool have the process's own."""
    found: Counter[str] = Counter()
    for thread in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError):  # it has ended
            found[Path(f"/proc/self/task/{thread}/comm").read_text().strip()] += 1
    return found


def fingerprint() -> dict[str, str]:
    """Compute every operation; 16 hex digits of sha256 over the bytes of what it gives."""
    import numpy as np

    found = {}
    for name, computed in _operations():
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
    """Inputs that are the same everywhere: multiples of 2**-16 from NumPy's PCG64, which computes with integers."""

    def __init__(self) -> None:
        import numpy as np

        self._generator = np.random.Generator(np.random.PCG64(20))

    def __call__(self, *shape: int, low: float = -4.0, high: float = 4.0, dtype: str = "float32") -> Any:
        """An array from `low` (not reached) to `high`."""
        return (high - self._generator.integers(0, int((high - low) * 65536), size=shape) / 65536).astype(dtype)


Operation = tuple[str, Any]
"""A name, and the arrays that were computed."""


def _operations() -> Iterator[Operation]:
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
    """What Grappler may rewrite, all in one graph."""
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
