"""Checks, when state is captured, that it can be restored into the objects that exist when training begins."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from samebits.core.errors import shorten
from samebits.core.jsonio import differing_names
from samebits.runner.checkpoint.state.container_access import name_of_key
from samebits.runner.checkpoint.state.encoding import (
    ORDER,
    PLAIN,
    SYMBOLIC,
    Encoded,
    UncapturableError,
    kind_of,
    resolve_name,
)


def check_restorable(captured: Mapping[str, Any], initial: Mapping[str, Any]) -> None:
    """Raise UncapturableError unless captured state can be restored into the `initial` one.

    Attributes that an object of a library received since then, and that cannot be restored, are removed from
    `captured`: the library's own code sets them again.
    """
    known = dict(initial["roots"])
    for name, item in captured["roots"]:
        if name in known:
            _check_value(item, known[name], name)
    known = {(module, name): item for module, name, item in initial["globals"]}
    for module, name, item in captured["globals"]:
        _check_value(item, known.get((module, name)), f"{module}.{name}")


def check_steps(stepped: Iterable[Any], captured: Sequence[Any]) -> None:
    """Raise UncapturableError if an optimizer that made its first step in a phase is not among those `captured`."""
    for optimizer in stepped:
        if not any(optimizer is known for known in captured):
            raise UncapturableError(
                f"the optimizer {optimizer.name} was created during training, or nothing that is saved refers to it;"
                " create its model before, and keep it in an attribute of the model or callback that trains it"
            )


def completed(initial: Encoded, built: Encoded) -> Encoded:
    """The initial state, with what appeared, or became other than None, in the `built` one."""
    if isinstance(initial, Mapping) and isinstance(built, Mapping):
        # Attributes of layers that Keras sets while it builds them; see `trace_inputs` for those that may not change.
        return {name: item if name == "fixed" else completed(initial.get(name), item) for name, item in built.items()}
    if isinstance(initial, list) and isinstance(built, list) and len(initial) == len(built):
        return [completed(one, other) for one, other in zip(initial, built, strict=True)]
    scalar = not isinstance(initial, (Mapping, list)) and not isinstance(built, (Mapping, list))
    return initial if scalar and initial not in (None, False) else built


def _check_value(captured: Encoded, initial: Encoded, where: str, *, built: bool = False) -> None:
    """`built` is whether the value belongs to a layer that a resumed run builds again."""
    if type(captured) in PLAIN or captured == SYMBOLIC:
        return
    kind = kind_of(captured)
    content = captured[kind]
    # An initial value of another kind offers nothing to restore into.
    known = initial.get(kind) if isinstance(initial, Mapping) else None
    if "class" in captured and (known is None or captured["class"] != initial.get("class")):
        raise UncapturableError(
            f"{where} became {captured['class']} during training, which a resumed run cannot create; create it before"
        )
    if captured.get(ORDER) == []:
        _check_kept(captured, initial, where)
    elif kind in ("method", "weak", "wrapped"):
        _check_holder(captured, initial, where)
    elif kind in ("object", "layer", "optimizer", "type"):
        _check_object(kind, content, known, where, built=built)
    elif kind == "function":
        _check_function(content, known, where)
    elif kind in ("constant", "unchanged", "held", "variable", "member", "unsaved", "file"):
        _check_exists(kind, content, known, where)
    else:
        _check_items(kind, content, known, where)


def _check_items(kind: str, content: Any, known: Any, where: str) -> None:
    if kind == "numpy_generator" and content.get("shares") != (known or {}).get("shares"):
        raise UncapturableError(
            f"{where} shares the bits of {content.get('shares')} since training began; draw from one of them"
        )
    for index, (item, counterpart) in enumerate(paired_items(kind, content, known)):
        _check_value(item, counterpart, f"{where}[{index}]")
    for key, counterpart in _paired_keys(content, known or ()) if kind == "dict" else ():
        _check_value(key, counterpart, f"a key of {where}")


def _check_kept(captured: Encoded, initial: Encoded, where: str) -> None:
    """A set that cannot be filled again must stay as it is."""
    if _unnumbered(captured) != _unnumbered(initial):
        raise UncapturableError(
            f"{where} is a set that changed during training, and whose order or items cannot be reproduced; use a dict"
            " or a list"
        )


def _unnumbered(encoded: Encoded) -> Encoded:
    if isinstance(encoded, Mapping):
        return {name: _unnumbered(item) for name, item in encoded.items() if name not in ("#", "again")}
    return [_unnumbered(item) for item in encoded] if isinstance(encoded, list) else encoded


def _paired_keys(content: Any, known: Any) -> Iterator[tuple[Encoded, Encoded]]:
    """The keys of a dict that are no plain values, each with its initial counterpart or None."""
    initial = [key for key, _ in known]
    named = {repr(name): key for key in initial if (name := name_of_key(key)) is not None}
    for number, (key, _) in enumerate(content):
        if isinstance(key, Mapping):
            in_place = initial[number] if number < len(initial) else None
            yield key, named.get(repr(name_of_key(key)), in_place)


def _check_holder(captured: Mapping[str, Any], initial: Encoded, where: str) -> None:
    """An object around another one: a bound method, a weak reference, a `tf.function`, a cache."""
    kind = kind_of(captured)
    known = initial if isinstance(initial, Mapping) and kind in initial else None
    if known is not None and captured.get("misses", 0) != known.get("misses", 0):
        raise UncapturableError(
            f"{where} is a cache of functools that was filled during training, and cannot be saved; use a dict"
        )
    inner, initially = (
        part and (part["of"] if kind == "method" else part) for part in (captured[kind], known and known[kind])
    )
    _check_value(inner, initially, where)


def _check_function(content: Mapping[str, Any], known: Mapping[str, Any] | None, where: str) -> None:
    # A named function of a module can be looked up; a new closure cannot be created.
    if known is None or any(known.get(key) != content.get(key) for key in ("name", "place")):
        resolve_name(content["name"], where, content.get("place"))
        if known is not None and known["name"] == content["name"]:
            raise UncapturableError(f"{where} got other code during training, which a resumed run does not have")
        known = {"cells": [], "holds": None}
    for number, item in enumerate(content["cells"]):
        cell = known["cells"][number] if number < len(known["cells"]) else None
        _check_value(item, cell, f"the closure of {where}")
    _check_value(content["holds"], known["holds"], f"default arguments or attributes of {where}")


def _check_methods(content: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    for method, initial in zip(content.get("methods", ()), known.get("methods", ()), strict=False):
        _check_function(method, initial, f"{where}.{method['name'].rpartition('.')[2]}")


def paired_items(kind: str, content: Any, known: Any) -> Iterator[tuple[Encoded, Encoded]]:
    """The items of a container, each with its initial counterpart or None."""
    if kind == "dict":
        # Encoded keys are JSON, which is not hashable.
        initial = {repr(key): item for key, item in known or ()}
        ordered = [item for _, item in known or ()]
        for number, (key, item) in enumerate(content):
            # An object that is a key has no name of its own.
            paired = ordered[number] if isinstance(key, Mapping) and number < len(ordered) else None
            yield item, initial.get(repr(key), paired)
    elif kind in ("list", "tuple", "deque", "set", "frozenset", "partial", "members"):
        yield from itertools.zip_longest(content, list(known or ())[: len(content)])


def _check_exists(kind: str, content: Any, known: Any, where: str) -> None:
    if kind == "member":
        _check_member(content, known, where)
        return
    if kind == "file" and known != content:
        raise UncapturableError(
            f"{where} became another open file during training, or was closed; open and close it where it is used"
        )
    if kind == "variable" and (known is None or known["shape"] != content["shape"]):
        raise UncapturableError(f"{where} is a variable that was created during training; create it before")
    if kind == "variable":
        _check_attributes(content, known, where, required=True)
    if kind == "unsaved" and known != content:
        raise UncapturableError(
            f"{where} ({content[0]}) changed during training, and cannot be saved; use numbers, strings, lists, dicts"
            " or arrays of numbers"
        )
    if kind not in ("variable", "unsaved", "file") and known != content:
        raise UncapturableError(f"{where} became {content} during training, which cannot be saved; create it before")


def _check_member(content: dict[str, Any], known: Mapping[str, Any] | None, where: str) -> None:
    if known is None or known["class"] != content["class"]:
        raise UncapturableError(
            f"{where} became {content['class']} during training, which cannot be saved; create it before"
        )
    # Another member, which the walk did not visit before, has nothing to compare with.
    if known["name"] == content["name"]:
        _check_attributes(content, known, where, required=True)


def _check_object(
    kind: str, content: dict[str, Any], known: Mapping[str, Any] | None, where: str, *, built: bool
) -> None:
    if kind == "type" and known is not None:
        _check_same_class(content, known, where)
    if known is None or known.get("class") != content.get("class"):
        what = content.get("class", f"an object of Keras ({kind})")
        raise UncapturableError(
            f"{where} became {what} during training, which a resumed run cannot create; create it before"
        )
    # Keras builds such a model again in the resumed run, from the shape of its input; and with it all its layers.
    later = built or (known.get("build", 0) is None and content.get("build") is not None)
    if kind == "layer" and len(known["variables"]) != len(content["variables"]) and not later:
        raise UncapturableError(
            f"{where} was built during training, which a resumed run cannot repeat; build it before"
        )
    if kind == "optimizer" and not known["built"] and any("variable" in item for item in content["trained"]):
        raise UncapturableError(f"{where} trains a variable that was created during training; create it before")
    _check_fixed(content, known, where, built=later)
    _check_inner(content, known, where, built=later)
    _check_methods(content, known, where)
    classes = dict(known.get("of", ()))
    for name, item in content.get("of", ()):
        _check_value(item, classes.get(name), name)
    _check_attributes(content, known, where, required=kind != "object" or content["ours"])
    if kind in ("object", "type"):
        _note_what_is_gone(content, known)


def _check_same_class(content: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    if known["name"] != content["name"]:
        raise UncapturableError(f"{where} became another class, {content['name']}, during training; create it before")
    names = differing_names(known["replaced"], content["replaced"])
    if names:
        raise UncapturableError(
            f"{shorten(names, 3)} of {where} got other code during training, which a resumed run does not have"
        )


def _note_what_is_gone(content: dict[str, Any], known: Mapping[str, Any]) -> None:
    """Note the attributes that were deleted, and the order of those of an object where a new one has another."""
    gone = known.get("attributes", {}).keys() - content["attributes"].keys()
    if gone and content.get("ours", True):
        content["without"] = sorted(gone)
    names, first = content.get(ORDER, ()), known.get(ORDER, ())
    # New attributes are set in the order of their names.
    if names == [name for name in first if name in names] + sorted(set(names) - set(first)):
        content.pop(ORDER, None)


def _check_inner(content: Mapping[str, Any], known: Mapping[str, Any], where: str, *, built: bool) -> None:
    inner, initial = content.get("inner", ()), known.get("inner", ())
    if len(inner) != len(initial):
        raise UncapturableError(f"a layer of {where} got its first attribute during training; set it before")
    for item, counterpart in zip(inner, initial, strict=True):
        name = item["layer"]["name"] if "layer" in item else "layers"
        _check_value(item, counterpart, f"{where}.{name}", built=built)


def _check_fixed(content: Mapping[str, Any], known: Mapping[str, Any], where: str, *, built: bool) -> None:
    differing = differing_fixed(known.get("fixed", {}), content.get("fixed", {}), built=built)
    if differing:
        raise UncapturableError(
            f"{where}: {shorten(differing, 3)} changed during training; a graph may have been traced with the old"
            " value; use a variable"
        )


def _check_attributes(content: dict[str, Any], known: Mapping[str, Any], where: str, *, required: bool) -> None:
    """Check the attributes of an object; those that cannot be restored are removed unless `required`."""
    initial = known.get("attributes", {})
    for name, item in list(content.get("attributes", {}).items()):
        try:
            _check_value(item, initial.get(name), f"{where}.{name}")
        except UncapturableError:
            # Keras sets anew what it made itself, but not what a script gave it.
            if required or _is_same_object(item, initial.get(name)):
                raise
            del content["attributes"][name]


def _is_same_object(captured: Encoded, initial: Encoded) -> bool:
    if not isinstance(captured, Mapping) or not isinstance(initial, Mapping):
        return False
    kind = kind_of(captured)
    return kind != "constant" and kind in initial and captured.get("class") == initial.get("class")


def differing_fixed(known: Mapping[str, str], now: Mapping[str, str], *, built: bool) -> list[str]:
    """Names of layers' attributes that changed between two encoded `fixed`.

    Building may add layers, set what was None, and count axes from 0.
    """
    if not built:
        return [name.partition(" ")[2] for name in differing_names(known, now)]
    before, after = ({name.partition(" ")[2]: text for name, text in found.items()} for found in (known, now))
    return sorted(
        name
        for name, text in before.items()
        if text not in ("None", "-1") and after.get(name) not in (text, f"[{text}]")
    )
