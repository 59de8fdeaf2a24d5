"""The JSON in a model file, without what changes each time a model is saved."""

import json
import re
from typing import Any

from samebits.core.jsonio import exact_float

_DATE_SAVED = re.compile(r"\d{4}-\d\d-\d\d@\d\d:\d\d:\d\d")
"""The time in a `.keras` archive's metadata. No other value under its name is left out of a digest."""


def archived_json(name: str, content: bytes) -> Any:
    """A JSON member of an archive. Raises ValueError or RecursionError."""
    values = json.loads(content)
    return without_addresses(_without_date(values) if name == "metadata.json" else values)


def attribute_json(text: str) -> Any:
    """A text in a model file: the JSON of a configuration, or the text itself."""
    # Keras stores a model's configuration as JSON text in an attribute.
    try:
        return without_addresses(json.loads(text))
    except ValueError:
        return text


def _without_date(values: Any) -> Any:
    if isinstance(values, dict) and _DATE_SAVED.fullmatch(str(values.get("date_saved"))):
        return {key: item for key, item in values.items() if key != "date_saved"}
    return values


def without_addresses(value: Any) -> Any:
    """JSON without the addresses of serialized objects, which strict JSON can hold: it has no NaN."""
    if isinstance(value, dict):
        # Only where Keras writes one: a script's own value of that name counts.
        volatile = "shared_object_id" if "class_name" in value and _is_address(value) else None
        return {key: without_addresses(item) for key, item in value.items() if key != volatile}
    if isinstance(value, list):
        return [without_addresses(item) for item in value]
    return exact_float(value) if isinstance(value, float) else value


def _is_address(value: dict[str, Any]) -> bool:
    return type(value.get("shared_object_id")) is int
