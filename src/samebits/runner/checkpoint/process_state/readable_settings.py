"""Settings of interpreter, process and libraries that a script can change and read back, each by the words for it."""

import contextvars
import csv
import decimal
import faulthandler
import gc
import locale
import logging
import multiprocessing
import os
import pickle
import resource
import signal
import site
import socket
import sys
import sysconfig
import threading
import time
import tracemalloc
import types
import warnings
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

from samebits.core.digest import Digest
from samebits.runner.checkpoint.state.object_inspection import attributes_of, cell_content

_CONTEXT = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
_SCRIPTS = ("__main__", "__mp_main__")
_PLAIN = (bool, int, float, str, bytes, type(None), tuple, list, dict, set)
_EPOCHS_OF_KERAS = ("max_epochs", "max_steps_per_epoch")
_LIBRARIES = ("stdlib", "platstdlib", "purelib", "platlib")
_SET_PRIORITY = frozenset({"nice", "setpriority"})
_SET_CORES = frozenset({"sched_setaffinity", "cpu_affinity"})
_SET_LIMITS = frozenset({"setrlimit", "prlimit", "rlimit"})
SET_FROM_OUTSIDE = _SET_PRIORITY | _SET_CORES | _SET_LIMITS
"""The names by which code sets what users and administrators set, too."""
_OF_STREAM_HANDLERS = frozenset(vars(logging.StreamHandler()))
_OF_FILES = frozenset(
    {"baseFilename", "mode", "encoding", "errors", "delay", "_builtin_open", "maxBytes", "backupCount"}
)
_WITH_LOGS = ("absl", "keras", "logging", "rich", "tensorflow", "tqdm")
"""Packages whose handlers and formatters only print."""
_FLAGS_OF_KERAS = ("is_interactive_logging_enabled", "is_traceback_filtering_enabled", "is_flash_attention_enabled")


def settings_of_python() -> dict[str, str]:
    """Those of the process and of the standard library. Only comparable within it: functions stand by their addresses.

    Example: `{"the recursion limit": "1000", "the locale": "C", ...}`.
    """
    return _of_interpreter() | _of_process() | _of_standard_library() | dict(_of_loggers())


def settings_of_libraries() -> dict[str, str]:
    """Those of Keras, NumPy and TensorFlow. Comparable within one process only."""
    import keras
    import numpy as np
    import tensorflow as tf

    # TensorFlow creates its logger when it first needs it, which may be during training.
    tf.get_logger()
    flags = {name: getattr(keras.config, name)() for name in _FLAGS_OF_KERAS if hasattr(keras.config, name)}
    return {
        **settings_of_graphs(),
        "flags of Keras": repr(flags),
        "limits of epochs in Keras": repr([getattr(keras.config, name, str)() for name in _EPOCHS_OF_KERAS]),
        "the handling of NumPy's errors": repr((np.geterr(), _address(np.geterrcall()), np.getbufsize())),
        "the print options of NumPy": repr(np.get_printoptions()),
        "run_functions_eagerly of TensorFlow": repr(tf.config.functions_run_eagerly()),
        "jit of TensorFlow": repr(tf.config.optimizer.get_jit()),
        "optimizer options of TensorFlow": repr(sorted(tf.config.optimizer.get_experimental_options().items())),
        "soft device placement of TensorFlow": repr(tf.config.get_soft_device_placement()),
        "TensorFloat-32 of TensorFlow": repr(tf.config.experimental.tensor_float_32_execution_enabled()),
    }


def settings_of_graphs() -> dict[str, str]:
    """Those that code of Keras reads while a graph is traced."""
    import keras

    return {
        "floatx of Keras": keras.config.floatx(),
        "epsilon of Keras": repr(keras.config.epsilon()),
        "image data format of Keras": keras.config.image_data_format(),
        "dtype policy of Keras": keras.config.dtype_policy().name,
    }


def settings_from_outside(names: AbstractSet[str]) -> dict[str, str]:
    """Those that users and administrators change, too: only where the script's code has a name that sets them."""
    found = {}
    if names & _SET_PRIORITY:
        found["the priority of the process"] = str(os.getpriority(os.PRIO_PROCESS, 0))
    if names & _SET_CORES:
        found["the cores that the process may use"] = repr(sorted(os.sched_getaffinity(0)))
    return found | _limits() if names & _SET_LIMITS else found


def _limits() -> dict[str, str]:
    names = sorted(name for name in dir(resource) if name.startswith("RLIMIT_"))
    with suppress(OSError):
        return {f"the limit {name}": repr(resource.getrlimit(getattr(resource, name))) for name in names}
    return {}


_CONTEXT_NAMES = {
    "decimal_context": "the context of decimal (decimal.getcontext)",
    "format_options": "NumPy's print options (numpy.set_printoptions)",
    "numpy.ufunc.extobj": "NumPy's handling of floating-point errors (numpy.seterr)",
}
"""Context variables that a script sets by functions of another name."""


def held_objects() -> Iterator[tuple[str, Any]]:
    """Objects that interpreter and standard library call or hold for a script, which no attribute leads to."""
    for number in sorted(signal.valid_signals()):
        yield f"the handler of signal {int(number)}", signal.getsignal(number)
    for name in ("excepthook", "displayhook", "unraisablehook", "breakpointhook"):
        yield f"sys.{name}", getattr(sys, name)
    yield from (("sys.settrace", sys.gettrace()), ("sys.setprofile", sys.getprofile()))
    yield from (("threading.excepthook", threading.excepthook), ("warnings.showwarning", warnings.showwarning))
    import numpy as np

    yield "the error handler of NumPy", np.geterrcall()
    yield from ((f"a callback of the garbage collector ({index})", item) for index, item in enumerate(gc.callbacks))
    for variable, value in contextvars.copy_context().items():
        yield _CONTEXT_NAMES.get(variable.name, f"the context variable {variable.name}"), value
    for name, item in list(sys.modules.items()):
        if not isinstance(item, types.ModuleType):
            yield f"sys.modules['{name}']", item
        elif _is_made_by_hand(name, item):
            yield from ((f"{name}.{key}", value) for key, value in vars(item).items() if not key.startswith("__"))


def _is_made_by_hand(name: str, module: types.ModuleType) -> bool:
    """Whether no import made a module: that would have given it a spec, or one to the package that made it in C."""
    package = sys.modules.get(name.partition(".")[0])
    if type(module) is not types.ModuleType or name in _SCRIPTS:
        return False
    modules = [item for item in (module, package) if type(item) is types.ModuleType]
    # Never compared by `==`, which a spec does slowly.
    return all(getattr(item, "__spec__", None) is None for item in modules)


def is_plain(value: Any) -> bool:
    """Whether a value is a number, a text, or a container of Python."""
    return type(value) in _PLAIN


def _of_interpreter() -> dict[str, str]:
    return {
        "the recursion limit": repr(sys.getrecursionlimit()),
        "the switch interval of threads": repr(sys.getswitchinterval()),
        "the limit of digits in texts of integers": repr(getattr(sys, "get_int_max_str_digits", int)()),
        "the settings of the garbage collector": repr((gc.get_threshold(), gc.isenabled(), gc.get_debug())),
        "the callbacks of the garbage collector": repr(list(map(_address, gc.callbacks))),
        "sys.argv": repr(sys.argv),
        "sys.path": repr(_searched()),
        "the functions that trace and profile": repr([_address(hook) for hook in (sys.gettrace(), sys.getprofile())]),
        "the flags of dlopen": repr(sys.getdlopenflags()),
        "the depth of tracking coroutines": repr(sys.get_coroutine_origin_tracking_depth()),
        "tracemalloc": repr((tracemalloc.is_tracing(), tracemalloc.get_traceback_limit())),
        "the name of the main thread": threading.main_thread().name,
        "faulthandler": repr(faulthandler.is_enabled()),
    }


def _searched() -> list[str]:
    """Where modules are searched, without folders of libraries: setuptools adds one when it is first imported."""
    paths = [*map(sysconfig.get_path, _LIBRARIES), *site.getsitepackages()]
    folders = tuple(f"{path}{os.sep}" for path in paths)
    return [str(path) for path in sys.path if not f"{path}{os.sep}".startswith(folders)]


def _of_process() -> dict[str, str]:
    found = {
        "the file mode creation mask (umask)": _status("Umask"),
        "the name of the process": _status("Name"),
        "user and groups of the process": repr((os.getresuid(), os.getresgid(), sorted(os.getgroups()))),
        "process group and session": repr((os.getpgrp(), os.getsid(0))),
        "blocked signals": repr(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
    }
    for number in sorted(signal.valid_signals()):
        found[f"the handler of signal {int(number)}"] = _handler(number)
    with suppress(OSError):
        found["the working folder"] = os.getcwd()
    return found


def _status(name: str) -> str:
    """A line of the process's status; reading the mask in another way would set it."""
    with suppress(OSError), open("/proc/self/status", encoding="utf-8", errors="replace") as lines:
        return next((line for line in lines if line.startswith(f"{name}:")), "")
    return ""


def _handler(number: int) -> str:
    found = signal.getsignal(number)
    # While a SIGTERM waits for a checkpoint, samebits uses the alarm, which was free before.
    ours = str(getattr(found, "__module__", "")).startswith("samebits.")
    return repr(signal.SIG_DFL) if ours or found is signal.SIG_DFL else _address(found)


def _address(value: Any) -> str:
    """A function or an object without its state, and without calling its own `__repr__`."""
    owner = getattr(value, "__self__", None)
    name = getattr(value, "__qualname__", type(value).__qualname__)
    return f"{name} at {id(value if owner is None else owner):x}"


def _of_standard_library() -> dict[str, str]:
    contexts = [decimal.getcontext(), decimal.DefaultContext, decimal.BasicContext, decimal.ExtendedContext]
    return {
        "the context of decimal": repr([_decimal(context) for context in contexts]),
        "the locale": locale.setlocale(locale.LC_ALL),
        "the time zone": repr((time.tzname, time.timezone, time.altzone)),
        "settings of csv": repr((csv.field_size_limit(), sorted(csv.list_dialects()))),
        "the default timeout of sockets": repr(socket.getdefaulttimeout()),
        "the stack size of threads": repr(_stack_size()),
        "the start method of multiprocessing": _start_method(),
        "the level below which logging is disabled": repr((logging.root.manager.disable, logging.raiseExceptions)),
    }


def _stack_size() -> int:
    """The stack size of threads. CPython sets the default while it reads it."""
    size = threading.stack_size()
    threading.stack_size(size)
    return size


def _start_method() -> str:
    """How multiprocessing starts processes; its first use sets the default."""
    return multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]


def _decimal(context: decimal.Context) -> list[Any]:
    traps = sorted(kind.__name__ for kind, on in context.traps.items() if on)
    return [*(getattr(context, name) for name in _CONTEXT), traps]


def _of_loggers() -> Iterator[tuple[str, str]]:
    """Settings of loggers that differ from those of a new one."""
    for name, logger in [("root", logging.root), *list(logging.root.manager.loggerDict.items())]:
        if isinstance(logger, logging.Logger):
            made = [item for item in [*logger.handlers, *logger.filters] if not _is_of_library(item)]
            kept = [(_address(item), *_held(item)) for item in made]
            # absl sets the level of its own logger with its flags.
            level = 0 if name == "absl" else logger.level
            values = (level, logger.propagate, logger.disabled, kept)
            if values != (0, True, False, []):
                yield f"settings of the logger {name}", repr(values)


def _held(item: Any) -> Iterator[str]:
    """What a handler or filter of the script holds, with its formatter and filters: lines, counters and the like."""
    for part in (item, getattr(item, "formatter", None), *getattr(item, "filters", ())):
        owner = getattr(part, "__self__", part)
        if isinstance(owner, types.FunctionType):
            yield from (_content_of(cell_content(cell)) for cell in owner.__closure__ or ())
        elif owner is not None and type(owner).__module__.partition(".")[0] not in _WITH_LOGS:
            held = attributes_of(owner) or {}
            yield from (_content_of(held[name]) for name in sorted(held.keys() - _OF_STREAM_HANDLERS - _OF_FILES))


def _content_of(value: Any) -> str:
    try:
        return str(Digest.of_bytes(pickle.dumps(value)))
    except Exception:  # noqa: BLE001  objects of scripts raise anything
        return _address(value)


def _is_of_library(item: Any) -> bool:
    """Whether it is a handler that Python or a library adds when it first logs, and that keeps nothing.

    One for a logger of a library does nothing; absl and `basicConfig` add one for stderr.
    """
    if type(item) is logging.NullHandler or type(item).__module__.partition(".")[0] == "absl":
        return True
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    plain = type(item) is logging.StreamHandler and any(item.stream is stream for stream in streams)
    return plain and vars(item).keys() <= _OF_STREAM_HANDLERS and not item.filters and _is_unformatted(item)


def _is_unformatted(handler: logging.Handler) -> bool:
    return not handler.level and type(handler.formatter) in (type(None), logging.Formatter)
