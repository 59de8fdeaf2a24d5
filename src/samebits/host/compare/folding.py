"""Differences as a terminal shows them: all that differs between two fingerprints is one line."""

from collections.abc import Sequence
from dataclasses import replace

from samebits.host.compare.run_diff import Difference

_OPERATION = "operation"
_MOST = 3


def folded(differences: Sequence[Difference]) -> list[Difference]:
    """The differences, where more than three operations of the fingerprint are the first of them with a count."""
    operations = [item for item in differences if item.kind == _OPERATION]
    if len(operations) <= _MOST:
        return list(differences)
    first, *others = operations
    name = f"{first.name} and {len(others)} more"
    line = replace(first, name=name, detail="the fingerprints differ; `samebits diff --json` names every operation")
    return [line if item is first else item for item in differences if item is first or item.kind != _OPERATION]
