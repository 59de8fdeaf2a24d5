"""How objects of libraries are captured: walked, taken for constants, compared by their content, or refused.

An allow-list: what is neither walked nor known to be immutable must not change, or is refused.
"""

import datetime as dt
import decimal
import fractions
import functools
import inspect
import io
import logging
import pickle
import re
import threading
import time
import types
import uuid
import weakref
from typing import Any

from samebits.core.digest import Digest
from samebits.core.errors import shorten
from samebits.runner.checkpoint.state.encoding import UncapturableError
from samebits.runner.checkpoint.state.object_inspection import attributes_of, has_hidden_state, is_bar
from samebits.runner.checkpoint.state.open_files import check_plain, is_standard
from samebits.runner.compat import cpython_private, keras_private, tensorflow_private

CONSTANT, WALK, COMPARE, REFUSE = "constant", "walk", "compare", "refuse"
_LIBRARIES = ("tensorflow", "keras")
_PRINTING = ("absl", "logging", "pygments", "tqdm", "warnings")
"""Packages whose objects only print."""
_LOGGING = ("logging", "logging.handlers")
_IMMUTABLE = (
    *(uuid.UUID, decimal.Decimal, fractions.Fraction),
    *(dt.date, dt.time, dt.timedelta, dt.tzinfo),
    *(types.BuiltinFunctionType, types.MethodWrapperType, types.CodeType, types.FrameType, types.TracebackType),
    *(types.WrapperDescriptorType, types.MethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType),
    *(types.NotImplementedType, types.EllipsisType),
    inspect.Signature,
)

_REFUSED = frozenset({"multiprocessing.connection", "dbm.dumb", "shelve"})
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_BY_CONTENT = (*_LOCKS, re.Pattern, re.Match, types.GenericAlias, weakref.finalize)
"""What is compared by a text of its own: the `repr` of a lock has an address, that of a match is cut off."""
_LOCK_PATIENCE = 0.05
"""For how many seconds another thread's lock is waited for: it is held for the moment only."""


def is_library_class(kind: type) -> bool:
    """Whether a class belongs to TensorFlow or Keras."""
    return kind.__module__.partition(".")[0] in _LIBRARIES


def is_trackable(value: Any) -> bool:
    """Whether TensorFlow keeps attributes of its own on an object, as on a `tf.Module`."""
    return tensorflow_private.is_trackable(value) and not is_library_class(type(value))


def is_symbolic(value: Any) -> bool:
    """Whether a value is a tensor without values, of a graph or of Keras's functional API."""
    import keras
    import tensorflow as tf

    return isinstance(value, keras.KerasTensor) or (isinstance(value, tf.Tensor) and not hasattr(value, "numpy"))


def handling_of(value: Any) -> str:
    """How an object that is no container, array or function is captured."""
    kind = type(value)
    # A handler may hold records back, and is made to do something else by its level.
    is_logging = isinstance(value, (logging.Logger, logging.LoggerAdapter, logging.Handler))
    if (is_logging and kind.__module__ in _LOGGING) or isinstance(value, _BY_CONTENT):
        return COMPARE
    # What a pipe holds is in the kernel, and a database writes its files when it is closed.
    if any(base.__module__ in _REFUSED for base in kind.__mro__):
        return REFUSE
    if is_bar(value):
        return WALK
    printing = kind.__module__.partition(".")[0] in _PRINTING or _is_plain_console(value) or _is_plain_thread(value)
    if printing or is_immutable(value) or isinstance(value, _known_immutable()):
        return CONSTANT
    if is_library_class(kind):
        return _handling_in_library(value)
    # What is written in C holds more than its attributes.
    hidden = isinstance(value, _IMMUTABLE) or attributes_of(value) is None or has_hidden_state(kind)
    return COMPARE if hidden else WALK


def is_immutable(value: Any) -> bool:
    """Whether it is a value such as a date. One of a subclass may have attributes, and then has no `repr` here."""
    return isinstance(value, _IMMUTABLE) and not hasattr(value, "__dict__")


def is_known_by_place(value: Any) -> bool:
    """Whether it is data of TensorFlow: no text says what it holds, so that its place alone says which one it is."""
    import tensorflow as tf

    return isinstance(value, (tf.data.Dataset, tf.data.Options, tf.lookup.StaticHashTable))


def _is_plain_thread(value: Any) -> bool:
    """Whether a thread has Python's own attributes only."""
    return type(value) is threading.Thread and all(name.startswith("_") for name in vars(value))


def _is_plain_console(value: Any) -> bool:
    """Whether it only prints: other objects of rich, such as a table or progress, hold what a script reads back."""
    kind = type(value)
    plain = kind.__name__ in {"Console", "RichHandler", "Style", "Theme"} and not getattr(value, "record", False)
    return plain and kind.__module__.partition(".")[0] == "rich"


def _handling_in_library(value: Any) -> str:
    if isinstance(value, _compared()) or hasattr(value, "export"):  # a lookup table whose content can be read
        return COMPARE
    walked = isinstance(value, _walked()) or type(value).__module__.partition(".")[0] == "keras"
    return WALK if walked and attributes_of(value) is not None else REFUSE


@functools.cache
def _known_immutable() -> tuple[type, ...]:
    """Objects of NumPy, Keras and TensorFlow that training does not change, or that only print."""
    import keras
    import numpy as np
    import tensorflow as tf

    # Where the position in a distributed pipeline matters, a resumed run finds it again, or it is refused.
    distributed = (tf.distribute.Strategy, tf.distribute.DistributedDataset)
    data = (tf.data.Dataset, tf.data.Options, tf.lookup.StaticHashTable, *distributed)
    graphs = (tf.Graph, tf.Operation, tf.GradientTape, *tensorflow_private.graph_kinds())
    described = (tf.DType, tf.TensorShape, tf.TypeSpec, tf.IndexedSlices, tf.DeviceSpec, tf.summary.SummaryWriter)
    return (np.dtype, np.ufunc, *data, *graphs, *described, keras.InputSpec, *keras_private.immutable_kinds())


@functools.cache
def _walked() -> tuple[type, ...]:
    """Objects of TensorFlow whose state are their attributes."""
    import tensorflow as tf

    kinds = (tf.Module, tf.train.ExponentialMovingAverage, tf.train.Checkpoint, tf.train.CheckpointManager)
    return (*kinds, *tensorflow_private.container_kinds())


@functools.cache
def _compared() -> tuple[type, ...]:
    import tensorflow as tf

    return (tf.RaggedTensor, tf.SparseTensor)


def content_digest(value: Any, where: str) -> str:
    """A digest of what an object holds that can be neither walked nor restored. Raises UncapturableError."""
    try:
        return str(Digest.of_bytes(_content(value)))
    except Exception as error:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise UncapturableError(
            f"{where} is a {kind}, whose state cannot be saved ({shorten([str(error)], 1)}); create it where it is used"
        ) from error


def _content(value: Any) -> bytes:
    import tensorflow as tf

    if isinstance(value, (logging.Logger, logging.LoggerAdapter, logging.Handler)):
        return repr(_logging_state(value)).encode()
    if isinstance(value, _BY_CONTENT):
        return compared_text(value).encode("utf-8", "surrogatepass")
    if isinstance(value, tf.Tensor):  # of strings
        return bytes(tf.io.serialize_tensor(value).numpy())
    if isinstance(value, _compared()):
        parts = tf.nest.flatten(value, expand_composites=True)
        return b"".join(tf.io.serialize_tensor(part).numpy() for part in parts)
    if is_library_class(type(value)):
        return _table(value)
    # The class of an immutable value may leave out the attributes that a subclass has.
    return pickle.dumps((value, vars(value)) if isinstance(value, _IMMUTABLE) else value, protocol=4)


def compared_text(value: Any) -> str:
    """What a lock, a pattern, a match or an alias of a generic type holds."""
    if isinstance(value, re.Pattern):
        return repr((value.pattern, value.flags))
    if isinstance(value, re.Match):
        return repr((compared_text(value.re), value.string, value.pos, value.endpos, value.regs))
    if isinstance(value, types.GenericAlias):
        return repr(value)
    if isinstance(value, weakref.finalize):
        return f"{value.alive} {value.atexit}" if value.alive else "dead"
    ends = time.monotonic() + _LOCK_PATIENCE
    while repr(value).startswith("<locked") and time.monotonic() < ends:
        time.sleep(0.001)
    # Without address and owner, which differ between runs.
    found = repr(value)
    return f"{found.partition(' ')[0]} {re.findall(r'count=[0-9]+', found)}"


def _logging_state(value: Any) -> tuple[Any, ...]:
    """What a logger or handler does with a record, and how many records a handler holds back."""
    if isinstance(value, logging.LoggerAdapter):
        return *_logging_state(value.logger), pickle.dumps(value.extra)
    if isinstance(value, logging.Logger):
        own = (value.name, value.level, value.disabled, value.propagate, *map(_logging_state, value.handlers))
        above = value.parent.handlers if value.propagate and value.parent else []
        return *own, *(text for handler in above if (text := written_to_memory(handler)) is not None)
    return (
        type(value).__qualname__,
        value.level,
        cpython_private.log_format(value),
        len(getattr(value, "buffer", None) or ()),
        written_to_memory(value),
    )


def written_to_memory(handler: Any) -> str | bytes | None:
    """What a handler wrote to memory; None where it writes to a file. Raises UncapturableError for other streams."""
    stream = getattr(handler, "stream", None)
    if stream is None or is_standard(stream) or getattr(stream, "closed", False):
        return None
    if type(stream) in (io.StringIO, io.BytesIO):
        found: str | bytes = stream.getvalue()
        return found
    check_plain(stream, "its stream")
    return None


def _table(table: Any) -> bytes:
    """The pairs of a lookup table, whose order depends on how it was filled."""
    import tensorflow as tf

    keys, values = table.export()
    pairs = zip(tf.unstack(keys), tf.unstack(values), strict=True)
    return b"".join(sorted(b"".join(tf.io.serialize_tensor(part).numpy() for part in pair) for pair in pairs))
