"""The test at the start of a run: are the private names there, and do they look as in the versions that were tested?

`seen.json` holds, for each version of a library, how each name looks there; `tools/see_private_names.py` makes it.
"""

import functools
import importlib
import inspect
import json
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from samebits.core.errors import SettingError
from samebits.runner.compat.features import Feature
from samebits.runner.process.console import log

_SEEN = Path(__file__).with_name("seen.json")

Seen = Mapping[str, Mapping[str, Mapping[str, str]]]
"""How names look, by library and its version."""


class PrivateNames:
    """What of samebits can run on these versions of the libraries."""

    def __init__(self, versions: Mapping[str, str], seen: Seen) -> None:
        self._versions = versions
        self._seen = seen
        self._looks = functools.cache(describe)
        self.off: dict[str, str] = {}

    def allow(self, feature: Feature) -> bool:
        """Whether a feature can run; where it cannot, stderr says so once, and `off` has the reason."""
        why = self.objection(feature)
        if why is not None and feature.name not in self.off:
            self.off[feature.name] = why
            log(f"{feature.name} is off: {why}")
        return why is None

    def reason(self, feature: Feature) -> str:
        """Why a feature that `allow` refused is off."""
        return self.off[feature.name]

    def require(self, *features: Feature) -> None:
        """Raise SettingError where one of these features cannot run."""
        for feature in features:
            why = self.objection(feature)
            if why is not None:
                raise SettingError(
                    f"this run needs {feature.name}, which cannot be had here: {why}; use the locked versions"
                )

    def objection(self, feature: Feature) -> str | None:
        """Why a feature cannot run; None where it can."""
        for name in feature.needs:
            if self._looks(name) is None:
                return f"{self._library(name)} has no {name}"
        found = (self._objection(name, essential=feature.essential) for name in feature.needs)
        return next((text for text in found if text is not None), None)

    def _objection(self, name: str, *, essential: bool) -> str | None:
        library, here, looks = library_of(name), self._library(name), self._looks(name)
        known = self._seen.get(library, {})
        row = known.get(self._versions[library])
        if row is None and (essential or library == "python"):
            row = known[max(known, key=_order)]
        if row is None:
            return f"{here} is not one of the versions that were tested ({', '.join(known)})"
        if row.get(name) != looks:
            return f"{here} has another form of {name}: {looks}, where {row.get(name)} was seen"
        return None

    def _library(self, name: str) -> str:
        """The library of a name, with its version."""
        return f"{library_of(name)} {self._versions[library_of(name)]}"


def look_at_names() -> PrivateNames:
    """The private names as this process has them; TensorFlow and Keras must be imported."""
    return PrivateNames(installed_versions(), read_seen())


def installed_versions() -> dict[str, str]:
    """The version of each library; of Python the minor one."""
    import keras
    import numpy as np
    import tensorflow as tf

    python = ".".join(platform.python_version_tuple()[:2])
    return {"keras": keras.__version__, "tensorflow": tf.__version__, "numpy": np.__version__, "python": python}


def read_seen(path: Path = _SEEN) -> Seen:
    """The committed table."""
    seen: Seen = json.loads(path.read_bytes())
    return seen


def library_of(name: str) -> str:
    """The library that a name belongs to."""
    first = name.partition(":")[0].partition(".")[0]
    return first if first in ("keras", "numpy", "tensorflow") else "python"


def describe(name: str) -> str | None:
    """How a name looks: the parameters of what can be called, else `there`; None where it is not there."""
    module, _, path = name.partition(":")
    path, _, held = path.partition("#")
    try:
        found: Any = functools.reduce(getattr, path.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        return None
    if held:
        return "there" if any(held in code.co_names for code in _methods_code(found)) else None
    return _parameters(found) if callable(found) else "there"


def _methods_code(kind: type) -> Iterator[CodeType]:
    """The code of all methods of a class and of its bases: what they assign to `self` is among its names."""
    for base in kind.__mro__:
        for item in vars(base).values():
            inner = inspect.unwrap(getattr(item, "fget", None) or getattr(item, "__func__", item))
            if isinstance(inner, FunctionType):
                yield inner.__code__


def _parameters(function: Any) -> str:
    """Names and kinds; the values of defaults may have addresses in them."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return "callable"  # one that is written in C
    return ", ".join(_parameter(item) for item in parameters)


def _parameter(item: inspect.Parameter) -> str:
    mark = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(item.kind.name, "")
    return mark + item.name + ("" if item.default is item.empty else "=")


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
