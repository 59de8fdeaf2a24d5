"""The self-test at the start of a run: do the private names exist, in the same form as in the tested versions?

The form of a callable is its parameters; any other name only has to exist. `seen.json` holds the form of each name in
each tested version of its library. `tools/see_private_names.py` adds the installed versions to it.
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

_TABLE = Path(__file__).with_name("seen.json")

KnownForms = Mapping[str, Mapping[str, Mapping[str, str]]]
"""The forms of private names, by library and version."""


class PrivateNames:
    """Which features can run on these library versions. `off` holds the reasons of refused features, by name."""

    def __init__(self, versions: Mapping[str, str], known: KnownForms) -> None:
        self._versions = versions
        self._known = known
        self._form = functools.cache(form_of)
        self.off: dict[str, str] = {}

    def allow(self, feature: Feature) -> bool:
        """Whether a feature can run. The first refusal is reported on stderr."""
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
                    f"this run needs {feature.name}, which is not available here: {why}; use the locked versions"
                )

    def objection(self, feature: Feature) -> str | None:
        """Why a feature cannot run; None where it can."""
        # A missing name is the clearest reason, so it comes before any version.
        for name in feature.needs:
            if self._form(name) is None:
                return f"{self._library(name)} has no {name}"
        found = (self._objection(name, essential=feature.essential) for name in feature.needs)
        return next((text for text in found if text is not None), None)

    def _objection(self, name: str, *, essential: bool) -> str | None:
        library, here, form = library_of(name), self._library(name), self._form(name)
        known = self._known.get(library, {})
        row = known.get(self._versions[library])
        # The effect of an essential feature is checked anyway, and CPython's few names are stable.
        if row is None and (essential or library == "python"):
            row = known[max(known, key=_order)]
        if row is None:
            return f"{here} is not one of the tested versions ({', '.join(known)})"
        if row.get(name) != form:
            return f"{here} has a different form of {name}: {form}, expected {row.get(name)}"
        return None

    def _library(self, name: str) -> str:
        """The library of a name, and its version."""
        return f"{library_of(name)} {self._versions[library_of(name)]}"


def read_private_names() -> PrivateNames:
    """The private names in this process. TensorFlow and Keras must be imported."""
    return PrivateNames(installed_versions(), read_known_forms())


def installed_versions() -> dict[str, str]:
    """The version of each library; for Python major and minor only."""
    import keras
    import numpy as np
    import tensorflow as tf

    python = ".".join(platform.python_version_tuple()[:2])
    return {"keras": keras.__version__, "tensorflow": tf.__version__, "numpy": np.__version__, "python": python}


def read_known_forms(path: Path = _TABLE) -> KnownForms:
    """The committed table."""
    known: KnownForms = json.loads(path.read_bytes())
    return known


def library_of(name: str) -> str:
    """The library that a name belongs to."""
    first = name.partition(":")[0].partition(".")[0]
    return first if first in ("keras", "numpy", "tensorflow") else "python"


def form_of(name: str) -> str | None:
    """The parameters of a callable, `there` for any other name, None where the name does not exist."""
    module, _, path = name.partition(":")
    path, *others = path.split("|")
    # The same thing has another name in older versions.
    if others and form_of(f"{module}:{path}") is None:
        before = path.rpartition(".")[0]
        return form_of(f"{module}:{before}.{'|'.join(others)}")
    path, _, held = path.partition("#")
    try:
        found: Any = functools.reduce(getattr, path.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        return None
    # An attribute that methods assign to `self` is not on the class: it is found in their code.
    if held:
        # In another version the name may be a function.
        if not isinstance(found, type):
            return None
        return "there" if any(held in code.co_names for code in _methods_code(found)) else None
    return _parameters(found) if callable(found) else "there"


def _methods_code(kind: type) -> Iterator[CodeType]:
    """The code of all methods of a class and its bases. Its names include the attributes assigned to `self`."""
    for base in kind.__mro__:
        for item in vars(base).values():
            inner = inspect.unwrap(getattr(item, "fget", None) or getattr(item, "__func__", item))
            if isinstance(inner, FunctionType):
                yield inner.__code__


def _parameters(function: Any) -> str:
    """Names and kinds, without the values of defaults, which may contain addresses."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return "callable"  # written in C
    return ", ".join(_parameter(item) for item in parameters)


def _parameter(item: inspect.Parameter) -> str:
    mark = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(item.kind.name, "")
    return mark + item.name + ("" if item.default is item.empty else "=")


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
