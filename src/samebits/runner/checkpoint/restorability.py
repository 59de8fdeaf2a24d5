"""Whether saved state can be put back into what there was when training began; asked when it is taken out."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from samebits.core.errors import shorten
from samebits.core.jsonio import differing_names
from samebits.runner.checkpoint.encoding import PLAIN, Encoded, UncapturableError, kind_of, resolve_name


def check_restorable(now: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Raise UnsavableError unless what was taken out can be put back into what there was when training began.

    What a library's object got since, and nobody can make again, is left out: its own code made it, and will.
    """
    known = dict(before["roots"])
    for name, item in now["roots"]:
        if name in known:
            _check(item, known[name], name)
    known = {(module, name): item for module, name, item in before["globals"]}
    for module, name, item in now["globals"]:
        _check(item, known.get((module, name)), f"{module}.{name}")


def _check(now: Encoded, before: Encoded, where: str) -> None:
    if type(now) in PLAIN:
        return
    kind = kind_of(now)
    known = before.get(kind) if isinstance(before, Mapping) else None
    if "class" in now and (known is None or now["class"] != before.get("class")):
        raise UncapturableError(
            f"{where} became {now['class']} during the training, which cannot be made; make it before"
        )
    if kind in ("object", "layer", "optimizer", "method", "type"):
        _check_object(kind, now[kind], known, where)
    elif kind == "function":
        _check_function(now[kind], known, where)
    elif kind in ("constant", "unchanged", "variable", "member"):
        _check_there(kind, now[kind], known, where)
    else:
        for index, (item, counterpart) in enumerate(_inside(kind, now[kind], known)):
            _check(item, counterpart, f"{where}[{index}]")


def _check_function(content: Mapping[str, Any], known: Mapping[str, Any] | None, where: str) -> None:
    if known is None or known["name"] != content["name"]:
        resolve_name(content["name"], where)
        known = {"cells": [], "holds": None}
    for number, item in enumerate(content["cells"]):
        _check(item, known["cells"][number] if number < len(known["cells"]) else None, f"what {where} closes over")
    _check(content["holds"], known["holds"], f"what {where} holds")


def _check_methods(content: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    for method, before in zip(content.get("methods", ()), known.get("methods", ()), strict=False):
        _check_function(method, before, f"{where}.{method['name'].rpartition('.')[2]}")


def _inside(kind: str, content: Any, known: Any) -> Iterator[tuple[Encoded, Encoded]]:
    """What a container holds, each beside what stood in its place before."""
    if kind == "dict":
        befores = {repr(key): item for key, item in known or ()}
        yield from ((item, befores.get(repr(key))) for key, item in content)
    elif kind in ("list", "tuple", "deque", "set", "frozenset", "partial"):
        yield from itertools.zip_longest(content, list(known or ())[: len(content)])


def _check_there(kind: str, content: Any, known: Any, where: str) -> None:
    if kind == "member":
        known = None if known is None or known["class"] != content["class"] else content
    if kind == "variable" and (known is None or known["shape"] != content["shape"]):
        raise UncapturableError(f"{where} is a variable that was made during the training; make it before")
    if kind != "variable" and known != content:
        raise UncapturableError(f"{where} became {content} during the training, which cannot be saved; make it before")


def _check_object(kind: str, content: dict[str, Any], known: Mapping[str, Any] | None, where: str) -> None:
    if known is None or known.get("class") != content.get("class"):
        what = content.get("class", f"an object of Keras ({kind})")
        raise UncapturableError(
            f"{where} became {what} during the training, which cannot be made again; make it before"
        )
    later = known.get("build", 0) is None and content.get("build") is not None  # Keras will build it again
    if kind == "layer" and len(known["variables"]) != len(content["variables"]) and not later:
        raise UncapturableError(f"{where} was built during the training, and cannot be before it; build it before")
    fixed = _differing_fixed(known.get("fixed", {}), content.get("fixed", {}), built=later)
    if fixed:
        what = shorten(fixed, 3)
        raise UncapturableError(
            f"{where}: {what} changed during the training; what a graph was made of cannot be told from that: use a"
            " variable"
        )
    _check_methods(content, known, where)
    of = dict(known.get("of", ()))
    for name, item in content.get("of", ()):
        _check(item, of.get(name), name)
    befores = known.get("attributes", {})
    for name, item in list(content.get("attributes", {}).items()):
        try:
            _check(item, befores.get(name), f"{where}.{name}")
        except UncapturableError:
            if kind != "object" or content["ours"]:
                raise
            del content["attributes"][name]


def _differing_fixed(known: Mapping[str, str], now: Mapping[str, str], *, built: bool) -> list[str]:
    """Names of layers' attributes that are others now; building adds layers, sets what was None, and counts axes."""
    if not built:
        return [name.partition(" ")[2] for name in differing_names(known, now)]
    before, after = ({name.partition(" ")[2]: text for name, text in found.items()} for found in (known, now))
    return sorted(
        name
        for name, text in before.items()
        if text not in ("None", "-1") and after.get(name) not in (text, f"[{text}]")
    )
