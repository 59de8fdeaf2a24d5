"""Gives `tf.random` operations a state that a checkpoint can hold.

TensorFlow's stateful random operations, such as those of `tf.random.normal`, count their draws inside a kernel, which
gives no access to the counter. Here each becomes a stateless operation with a counter in a variable, as
`tf.random.Generator` has one. Most draw the same numbers as the operation that they replace.

That concerns operations in the graphs of a `tf.function`, and eager ones with a seed of their own. Other eager ones
take a seed from a generator that can be captured, and functions of tf.data pipelines start over with each iterator.
"""

import functools
import inspect
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from samebits.runner.checkpoint.process_state.kept_seeds import KeptSeeds
from samebits.runner.checkpoint.state.code_inspection import calling_function
from samebits.runner.compat import tensorflow_random
from samebits.runner.compat.patches import Patches
from samebits.runner.determinism.op_audit import unwatched

_State = list[int]
"""The state of a stream: how much was drawn, the operation's seed, and the global seed."""


class RandomStreams:
    """The streams of random numbers that replace TensorFlow's, by name.

    A name consists of the function, the operation, its seeds, and its number among equal ones. So a function that is
    traced again goes on with its streams, and a resumed run finds them.
    """

    def __init__(self) -> None:
        self._streams: dict[str, tuple[Any, _State]] = {}
        self._restored: dict[str, _State] = {}
        self._numbers: weakref.WeakKeyDictionary[Any, Counter[str]] = weakref.WeakKeyDictionary()
        self._kept = KeptSeeds()
        self._explicit = False
        self._local = threading.local()
        self.refuse: Callable[[], None] = lambda: None
        """Called where an eager operation that is not replaced gets a seed of its own."""

    def install(self, patches: Patches) -> None:
        """Replace the operations. Every run needs this, whether it writes checkpoints or not: it may change bits."""
        import keras

        for name, draw in _OPERATIONS.items():
            patches.wrap(tensorflow_random.operation_location(name), functools.partial(self._wrap, draw=draw))
        patches.wrap(tensorflow_random.seed_location(), self._wrap_seed)
        # Where it is defined: Keras asks whether a model has the usual one.
        definer = next(kind for kind in keras.Model.__mro__ if "compile" in vars(kind))
        patches.wrap((definer, "compile"), self._wrap_compile)
        for location in tensorflow_random.reset_locations():
            patches.wrap(location, self._wrap_reset)
        patches.wrap(tensorflow_random.data_function_location(), self._wrap_data_function)
        for location in tensorflow_random.save_locations():
            patches.wrap(location, self._wrap_save)

    @property
    def in_data_function(self) -> bool:
        """Whether a function of a tf.data pipeline is being traced."""
        return bool(getattr(self._local, "data", 0))

    def values(self) -> dict[str, str]:
        """The streams that were drawn from, with their states as text."""
        drawn = dict(self._restored)
        for name, (variable, initial) in self._streams.items():
            state = variable.numpy().tolist()
            if state != initial:
                drawn[name] = state
        found = {name: " ".join(map(str, drawn[name])) for name in sorted(drawn)}
        return found | self._kept.values(found)

    def restore(self, values: Mapping[str, str]) -> None:
        """Set every stream to what `values` returned; those that do not exist yet will begin there."""
        self._start_over()
        for name, text in self._kept.restore(values).items():
            state = [int(part) for part in text.split()]
            if name in self._streams:
                self._streams[name][0].assign(state)
            else:
                self._restored[name] = state

    def reset(self) -> None:
        """Let every stream start over."""
        self._kept.note_drawn(self.values())
        self._start_over()

    def _start_over(self) -> None:
        self._restored.clear()
        for variable, initial in self._streams.values():
            variable.assign(initial)

    def _wrap(self, original: Callable[..., Any], draw: Callable[..., Any]) -> Callable[..., Any]:
        signature, kind = inspect.signature(original), original.__name__

        @functools.wraps(original)
        def operation(*arguments: Any, **options: Any) -> Any:
            import tensorflow as tf

            function = self._function()
            if function is None:
                return original(*arguments, **options)
            bound = signature.bind(*arguments, **options)
            bound.apply_defaults()
            given = dict(bound.arguments)
            seeds = int(given.pop("seed")), int(given.pop("seed2"))
            seed, of_operation = self._kept.seeds_of(f"{function} {kind}", *seeds)
            stream = self._stream(f"{function} {kind} {seed} {of_operation}", [0, of_operation, seed])
            with tf.name_scope(given.pop("name") or kind):
                return draw(stream, **given)

        return operation

    def _function(self) -> str | None:
        """The name of the function whose operations are replaced; empty for eager ones, None where none is."""
        import tensorflow as tf

        if self.in_data_function or tf.distribute.has_strategy():
            return None
        if tf.executing_eagerly():
            return "" if self._explicit else None
        graph = tensorflow_random.traced_function()
        return None if graph is None or tensorflow_random.is_scratch(graph) else str(graph.name)

    def _stream(self, name: str, initial: _State) -> Any:
        """The variable of a stream; of equal operations in one function each has its own, so that they stay equal."""
        import tensorflow as tf

        graph = tensorflow_random.traced_function()
        if graph is not None:
            numbers = self._numbers.setdefault(graph, Counter())
            numbers[name] += 1
            name = f"{name} {numbers[name]}"
        self._kept.note_traced(name)
        if name not in self._streams:
            with tf.init_scope(), unwatched():
                state = self._restored.pop(name, initial)
                self._streams[name] = tf.Variable(state, dtype=tf.int64, trainable=False), initial
        return self._streams[name][0]

    def _wrap_seed(self, original: Callable[..., Any]) -> Callable[..., Any]:
        import tensorflow as tf

        @functools.wraps(original)
        def get_seed(op_seed: Any) -> Any:
            caller = calling_function(1)
            # The operation that asks is created next.
            self._explicit = op_seed is not None and caller in tensorflow_random.DRAWING
            # Under a strategy nothing is replaced.
            captured = self._explicit and not tf.distribute.has_strategy()
            # A pipeline asks through a function of the same name; `data_iterator` handles it.
            if op_seed is not None and not captured and caller != "get_seed" and tf.executing_eagerly():
                self.refuse()
            return original(op_seed)

        return get_seed

    def _wrap_reset(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def reset(*arguments: Any, **options: Any) -> Any:
            answer = original(*arguments, **options)
            self.reset()
            return answer

        return reset

    def _wrap_compile(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def compile_model(*arguments: Any, **options: Any) -> Any:
            self._kept.forget(self.values())
            return original(*arguments, **options)

        return compile_model

    def _wrap_data_function(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def make(*arguments: Any, **options: Any) -> None:
            self._local.data = getattr(self._local, "data", 0) + 1
            try:
                original(*arguments, **options)
            finally:
                self._local.data -= 1

        return make

    def _wrap_save(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A SavedModel must hold the variables that its functions use, also those of streams."""

        @functools.wraps(original)
        def save(obj: Any, *arguments: Any, **options: Any) -> Any:
            try:
                return original(obj, *arguments, **options)
            except AssertionError:
                # A function uses a variable that the object does not hold.
                with _attached(obj, [variable for variable, _ in self._streams.values()]):
                    return original(obj, *arguments, **options)

        return save


@contextmanager
def _attached(item: Any, variables: list[Any]) -> Iterator[None]:
    """Let a trackable object hold variables for a while."""
    item.samebits_streams = variables
    try:
        yield
    finally:
        del item.samebits_streams


def _drawn(stream: Any, size: Any) -> dict[str, Any]:
    """What a stateless operation needs to draw the next `size` numbers of a stream."""
    import tensorflow as tf

    # Reads and advances in one step. A graph executes the steps on one variable in the order of the program.
    state = tf.raw_ops.RngReadAndSkip(
        resource=stream.handle, alg=tensorflow_random.PHILOX, delta=tf.cast(size, tf.uint64)
    )
    counter, key = tf.bitcast(state[:2], tf.uint64), tf.bitcast(state[2:], tf.uint64)
    return {"counter": counter, "key": key, "alg": tensorflow_random.PHILOX}


def _size(shape: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_prod(tf.cast(shape, tf.int64))


def _seed(stream: Any) -> Any:
    """A seed for one stateless operation."""
    import tensorflow as tf

    return tf.raw_ops.StatelessRandomUniformFullIntV2(shape=[2], dtype=tf.int64, **_drawn(stream, 1))


def _standard_normal(stream: Any, shape: Any, dtype: Any) -> Any:
    import tensorflow as tf

    return tf.raw_ops.StatelessRandomNormalV2(shape=shape, dtype=dtype, **_drawn(stream, _size(shape)))


def _truncated_normal(stream: Any, shape: Any, dtype: Any) -> Any:
    import tensorflow as tf

    return tf.raw_ops.StatelessTruncatedNormalV2(shape=shape, dtype=dtype, **_drawn(stream, _size(shape)))


def _uniform(stream: Any, shape: Any, dtype: Any) -> Any:
    import tensorflow as tf

    return tf.raw_ops.StatelessRandomUniformV2(shape=shape, dtype=dtype, **_drawn(stream, _size(shape)))


def _uniform_int(stream: Any, shape: Any, minval: Any, maxval: Any) -> Any:
    import tensorflow as tf

    drawn = _drawn(stream, _size(shape))
    return tf.raw_ops.StatelessRandomUniformIntV2(shape=shape, minval=minval, maxval=maxval, **drawn)


def _gamma(stream: Any, shape: Any, alpha: Any) -> Any:
    import tensorflow as tf

    whole = tf.concat([tf.cast(shape, tf.int32), tf.shape(alpha)], axis=0)
    return tf.raw_ops.StatelessRandomGammaV3(shape=whole, alpha=alpha, **_drawn(stream, _size(whole)))


def _poisson(stream: Any, shape: Any, rate: Any, dtype: Any) -> Any:
    import tensorflow as tf

    whole = tf.concat([tf.cast(shape, tf.int32), tf.shape(rate)], axis=0)
    return tf.raw_ops.StatelessRandomPoisson(shape=whole, seed=_seed(stream), lam=rate, dtype=dtype)


def _multinomial(stream: Any, logits: Any, num_samples: Any, output_dtype: Any) -> Any:
    import tensorflow as tf

    return tf.raw_ops.StatelessMultinomial(
        logits=logits, num_samples=num_samples, seed=_seed(stream), output_dtype=output_dtype
    )


def _shuffle(stream: Any, value: Any) -> Any:
    import tensorflow as tf

    value = tf.convert_to_tensor(value)
    if value.shape.rank == 0:
        return tf.identity(value)
    size = tf.shape(value)[0]
    keys = tf.raw_ops.StatelessRandomUniformFullIntV2(shape=[size], dtype=tf.int64, **_drawn(stream, size))
    return tf.ensure_shape(tf.gather(value, tf.argsort(keys, stable=True)), value.shape)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "random_standard_normal": _standard_normal,
    "truncated_normal": _truncated_normal,
    "random_uniform": _uniform,
    "random_uniform_int": _uniform_int,
    "random_gamma": _gamma,
    "random_poisson_v2": _poisson,
    "multinomial": _multinomial,
    "random_shuffle": _shuffle,
}
"""TensorFlow's operations, each with a function that draws from a stream instead; all but the last three alike."""
