"""The filters of `warnings`. Libraries that are imported during training add some, so that a change is no error."""

import json
import re
import sys
import warnings
from collections.abc import Mapping
from typing import Any

_KEY = "filters"


def capture() -> dict[str, str]:
    """All filters as text, the first that applies first."""
    return {_KEY: json.dumps([[_encoded(part) for part in item] for item in warnings.filters])}


def restore(saved: Mapping[str, str]) -> None:
    """Set the filters. One for a class that is not here is left out: its library adds it when it is imported."""
    if _KEY not in saved:  # an earlier version of samebits did not capture them
        return
    found = [tuple(map(_decoded, item)) for item in json.loads(saved[_KEY])]
    warnings.filters[:] = [item for item in found if item[2] is not None]  # type: ignore[index]
    with warnings.catch_warnings():
        pass  # its public way to tell Python that filters changed


def _encoded(part: Any) -> Any:
    if isinstance(part, re.Pattern):
        return {"pattern": part.pattern, "flags": part.flags}
    return {"class": [part.__module__, part.__qualname__]} if isinstance(part, type) else part


def _decoded(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    if "pattern" in part:
        return re.compile(part["pattern"], part["flags"])
    found: Any = sys.modules.get(part["class"][0])
    for name in part["class"][1].split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, type) and issubclass(found, Warning) else None
