"""The filters of `warnings`. Libraries that are imported during training add some, so that a change is no error."""

import json
import re
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from samebits.core.errors import RecordError

_KEY = "filters"
_ACTIONS = ("default", "error", "ignore", "always", "all", "module", "once")
_last: dict[str, list[Any]] = {"restored": [], "set": []}
"""The filters that were restored last, encoded, and those of them that could be set."""


def capture() -> dict[str, str]:
    """All filters as text, the first that applies first, with restored ones that wait for their library."""
    now = [[_encoded(part) for part in item] for item in warnings.filters]
    restored, done = _last["restored"], _last["set"]
    added = len(now) - len(done)
    if restored != done and now[max(added, 0) :] == done:
        # Its library has added its own meanwhile, in front.
        now = [item for item in now[:added] if item in done or item not in restored] + restored
    return {_KEY: json.dumps(now)}


def restore(saved: Mapping[str, Any]) -> None:
    """Set the filters. One for a class that is not here is left out: its library adds it when it is imported.

    Raises RecordError for text that `capture` would not write.
    """
    if _KEY not in saved:  # an earlier version of samebits did not capture them
        return
    try:
        items = json.loads(saved[_KEY])
        found = [_filter(*_list(item)) for item in _list(items)]
    except (TypeError, ValueError, KeyError, RecursionError, OverflowError, re.error) as error:
        raise RecordError(f"the filters of warnings are malformed: {error}") from error
    kept = [(item, encoded) for item, encoded in zip(found, items, strict=True) if item[2] is not None]
    _last.update(restored=items, set=[encoded for _, encoded in kept])
    warnings.filters[:] = [item for item, _ in kept]  # type: ignore[index]
    with warnings.catch_warnings():
        pass  # its public way to tell Python that filters changed


def _encoded(part: Any) -> Any:
    if isinstance(part, re.Pattern):
        return {"pattern": part.pattern, "flags": part.flags}
    return {"class": [part.__module__, part.__qualname__]} if isinstance(part, type) else part


def _filter(action: Any, message: Any, category: Any, module: Any, line: Any) -> tuple[Any, ...]:
    """One filter, whose class is None if it is not here. Raises ValueError and others."""
    if action not in _ACTIONS or type(line) is not int or line < 0:
        raise ValueError(f"{action!r} in line {line!r} is no filter")
    return action, _pattern(message), _class(*_list(category["class"])), _pattern(module), line


def _pattern(part: Any) -> Any:
    """A pattern; None or text, which Python's own filters have, as it is."""
    if part is None or type(part) is str:
        return part
    return re.compile(_text(part["pattern"]), part["flags"])


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise ValueError(f"{value!r} is no list")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"{value!r} is no text")
    return value


def _class(module: Any, qualified: Any) -> type[Warning] | None:
    found: Any = sys.modules.get(_text(module))
    for name in _text(qualified).split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, type) and issubclass(found, Warning) else None
