"""Spoil each private name of each feature, and print whether the self-test detects it. Needs the locked environment.

An attribute of objects is spoiled by renaming it in the methods that assign it.
"""

import functools
import importlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

from samebits.runner.compat.features import FEATURES, Feature
from samebits.runner.compat.patches import Patches
from samebits.runner.compat.self_test import PrivateNames, installed_versions, library_of, read_known_forms

versions, known = installed_versions(), read_known_forms()


def owner_of(name: str) -> tuple[Any, str]:
    module, _, path = name.partition("|")[0].partition(":")
    *owners, last = path.split(".")
    return functools.reduce(getattr, owners, importlib.import_module(module)), last


@contextmanager
def without(name: str) -> Iterator[None]:
    """A version that does not have the name."""
    path, _, held = name.partition("#")
    owner, last = owner_of(path)
    if held:
        with renamed(getattr(owner, last), held):
            yield
        return
    # What a class inherits goes where it is defined, and so does what an object has of its class.
    bases = dict.fromkeys((owner, *getattr(owner, "__mro__", type(owner).__mro__)))
    values = [(base, vars(base)[last]) for base in bases if last in vars(base)]
    for base, _ in values:
        delattr(base, last)
    try:
        yield
    finally:
        for base, value in values:
            setattr(base, last, value)


@contextmanager
def renamed(kind: type, held: str) -> Iterator[None]:
    """Have the methods of a class and its bases use another name for an attribute."""
    changed = []
    for base in kind.__mro__:
        for item in vars(base).values():
            method: Any = getattr(item, "fget", None) or getattr(item, "__func__", item)
            while hasattr(method, "__wrapped__"):
                method = method.__wrapped__
            if isinstance(method, FunctionType) and held in method.__code__.co_names:
                changed.append((method, method.__code__))
                names = tuple("_other" if name == held else name for name in method.__code__.co_names)
                method.__code__ = method.__code__.replace(co_names=names)
    try:
        yield
    finally:
        for method, code in changed:
            method.__code__ = code


def other(unheard_of: None) -> None:
    """Has a parameter that nothing has."""


def objections(name: str, test: Callable[[], str | None]) -> list[str | None]:
    """The self-test's objections to a missing name, and to a name of a different form."""
    with without(name):
        found = [test()]
    owner, last = owner_of(name)
    if "#" not in name and isinstance(owner, (type, ModuleType)):
        with Patches() as patches:
            patches.replace(owner, last, other)
            found.append(test())
    return found


def objection(feature: Feature) -> str | None:
    """The self-test's objection to the libraries as they are now."""
    return PrivateNames(versions, known).objection(feature)


found: dict[str, Any] = {}
for feature in FEATURES:
    test = functools.partial(objection, feature)
    libraries = {library_of(name) for name in feature.needs}
    unknown = {
        library: PrivateNames(versions | {library: "99.0.0"}, known).objection(feature) for library in sorted(libraries)
    }
    spoiled = {name: objections(name, test) for name in feature.needs}
    found[feature.name] = {"essential": feature.essential, "as_is": test(), "unknown": unknown, "spoiled": spoiled}
print(json.dumps(found))
