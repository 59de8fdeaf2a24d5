"""Records whose parts are changed as their JSON."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from samebits.core.environment import Environment, ObservedSystem
from samebits.core.jsonio import Fields
from samebits.core.origin import ResumedRun
from samebits.core.record import Record
from samebits.core.result import Result

Edit = Callable[[dict[str, Any]], object]


def result_of(value: Mapping[str, Any]) -> Result:
    """A result from its JSON."""
    return Result.from_fields(Fields(value, "result"))


def observed(record: Record) -> ObservedSystem:
    """What was observed of software and machine; fails where nothing was."""
    assert record.environment.system is not None
    return record.environment.system


def resumed(record: Record) -> ResumedRun:
    """The run that this one resumes; fails where there is none."""
    assert record.origin.resumes is not None
    return record.origin.resumes


def with_result(record: Record, edit: Edit) -> Record:
    """The record with its result changed in place, in a copy."""
    return replace(record, result=result_of(_edited((record.result or Result()).to_dict(), edit)))


def with_environment(record: Record, edit: Edit) -> Record:
    """The record with its environment changed in place, in a copy."""
    value = _edited(record.environment.to_dict(), edit)
    return replace(record, environment=Environment.from_fields(Fields(value, "environment")))


def _edited(value: Mapping[str, Any], edit: Edit) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(value))
    edit(copy)
    return copy
