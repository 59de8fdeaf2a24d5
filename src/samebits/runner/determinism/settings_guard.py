"""What a script may change of a profile's settings while it runs, and where it does."""

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from samebits.core.determinism_profile import Profile
from samebits.core.errors import SettingError
from samebits.core.script_uses import ScriptSetting
from samebits.runner.compat import tensorflow_private
from samebits.runner.compat.patches import Patches
from samebits.runner.process.console import log

LIBRARY_PREFIXES = (
    "BLIS_",
    "CUBLAS_",
    "CUDNN_",
    "DNNL_",
    "KERAS_",
    "MKL_",
    "NPY_",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "TF_",
    "XLA_",
)
"""Variables that a library of the lock may read."""

HARMLESS_VARIABLES = {"KERAS_HOME", "TF_CPP_MIN_LOG_LEVEL", "TF_CPP_MAX_VLOG_LEVEL"}

POOLS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
"""The settings that are the sizes of TensorFlow's thread pools."""

_HASH_SEED = "PYTHONHASHSEED"
_MAX_HASH_SEED = 2**32 - 1


class SettingsGuard:
    """Stops a script that changes a pinned setting: TensorFlow has read it already, or would follow the change.

    Two are the script's own: PYTHONHASHSEED, which a running Python does not read, and, under the native profile, the
    sizes of the thread pools. They are recorded. `code` is the folder of the script.
    """

    def __init__(self, profile: Profile, code: Path | None = None) -> None:
        self._profile = profile
        self._code = None if code is None else os.path.join(code, "")
        self._names = {setting.name for setting in profile.settings}
        self._error: SettingError | None = None
        self._refuses_unknown = False
        self._made: dict[str, ScriptSetting] = {}
        self._report: Callable[[tuple[ScriptSetting, ...]], None] = lambda _: None

    @property
    def pools(self) -> dict[str, int]:
        """The thread pools whose sizes the script chose itself."""
        return {name: int(self._made[name].value) for name in POOLS if name in self._made}

    @property
    def threads(self) -> int:
        """The number of threads of the larger pool."""
        return max(self.pools.get(name, self._profile.threads) for name in POOLS)

    def check(self) -> None:
        """Raise again what was raised in the script, which may have swallowed it."""
        if self._error is not None:
            raise self._error

    def refuse_unknown(self) -> None:
        """From here on, also stop a script that sets any other variable that a library may read."""
        # Not from the start: NumPy sets such a variable during its own import.
        self._refuses_unknown = True

    def stop(self, message: str) -> NoReturn:
        """Raise SettingError in the script, and keep it for `check`."""
        self._error = SettingError(message)
        raise self._error

    def install(self, patches: Patches) -> None:
        """Wrap the two functions behind `os.environ`. An audit hook would slow down everything else."""
        for name in ("putenv", "unsetenv"):
            patches.wrap((os, name), self._guarded)

    def watch_pools(self, patches: Patches, report: Callable[[tuple[ScriptSetting, ...]], None]) -> None:
        """From here on, the script may choose its pools; `report` gets all settings that it has made."""
        self._report = report
        for setting in POOLS:
            for location in tensorflow_private.pool_locations(setting):
                patches.wrap(location, functools.partial(self._sized, setting=setting))

    def _guarded(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def guarded(*arguments: str | bytes) -> None:
            # `unsetenv` has no value.
            name, value = (os.fsdecode(argument) for argument in (*arguments, "(nothing)")[:2])
            if name == _HASH_SEED and _is_fixed_seed(value):
                self._note_hash_seed(value)
            elif name in self._names:
                self._refuse({name: value})
            elif self._refuses_unknown and name.startswith(LIBRARY_PREFIXES) and name not in HARMLESS_VARIABLES:
                self.stop(
                    f"{self._place()} sets {name}={value}, which may change bits on another CPU; remove it, or use the"
                    " native profile"
                )
            original(*arguments)

        return guarded

    def _sized(self, original: Callable[[int], None], setting: str) -> Callable[[int], None]:
        """A setter of a pool's size."""

        @functools.wraps(original)
        def sized(num_threads: int) -> None:
            if num_threads != self._profile.threads or setting in self._made:
                self._check_size(setting, num_threads)
            original(num_threads)
            if num_threads != self._profile.threads or setting in self._made:
                self._note(setting, str(int(num_threads)))

        return sized

    def _check_size(self, setting: str, size: int) -> None:
        """Stop the script where the size changes the bits of another machine, or the user chose otherwise."""
        call = f"{self._place()} sets {setting} to {size}"
        if self._profile.portable:
            self.stop(f"{call}, but the portable profile needs {self._profile.threads}; remove the call")
        if not isinstance(size, int) or size < 1:
            self.stop(f"{call}: as many threads as the machine has cores; pass a number, or remove the call")
        if self._profile.threads == 1:
            self.stop(f"{call}, but the run has 1 thread; remove the call, or use --threads {size}")

    def _note_hash_seed(self, value: str) -> None:
        """The seed has an effect on Python processes that the script starts, and is the same in every run."""
        if value == self._profile.hash_seed and _HASH_SEED not in self._made:
            return
        if _HASH_SEED not in self._made:
            started = f"which has no effect on this Python: it started with {self._profile.hash_seed}"
            log(f"{self._place()} sets {_HASH_SEED}={value}, {started}")
        self._note(_HASH_SEED, value)

    def _note(self, name: str, value: str) -> None:
        path, line = self._caller() or ("", 0)
        self._made[name] = ScriptSetting(path=path, line=line, name=name, value=value)
        self._report(tuple(self._made.values()))

    def _refuse(self, setting: Mapping[str, str]) -> None:
        """Raise SettingError where a variable differs from the profile."""
        try:
            self._profile.check(setting, self._place())
        except SettingError as error:
            self._error = error
            raise

    def _place(self) -> str:
        """The line of the script that is running; `the script` where a library of its own thread runs."""
        found = self._caller()
        return "the script" if found is None else f"{found[0]}:{found[1]}"

    def _caller(self) -> tuple[str, int] | None:
        """File and line of the innermost call in the script's code."""
        frame = inspect.currentframe()
        while frame is not None and self._code is not None:
            if frame.f_code.co_filename.startswith(self._code):
                return frame.f_code.co_filename.removeprefix(self._code), frame.f_lineno
            frame = frame.f_back
        return None


def _is_fixed_seed(value: str) -> bool:
    """Whether a value of PYTHONHASHSEED makes every Python that is started with it hash alike."""
    return value.isascii() and value.isdecimal() and int(value) <= _MAX_HASH_SEED
