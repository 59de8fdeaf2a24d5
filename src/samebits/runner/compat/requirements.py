"""Which features a run requires: with one of them off, its record would claim something that was not checked."""

from collections.abc import Iterator

from samebits.core.determinism_profile import Profile
from samebits.core.recipe import PER_EPOCH
from samebits.core.record import Record
from samebits.core.trial import EXACT_OPERATIONS, ORDER_OF_SUMS
from samebits.runner.compat.features import (
    BINCOUNT_GUARD,
    ENTROPY_MONITOR,
    EPOCH_SHUFFLE,
    EXACT_OPS,
    EXACT_RESUME,
    MULTI_WORKER,
    NONDETERMINISTIC_OPS,
    OBSERVER,
    OP_AUDIT,
    ORDERED_SUMS,
    SETTINGS,
    STEP_TRACE,
    Feature,
)


def required_features(record: Record, profile: Profile) -> list[Feature]:
    """The features that this run requires. Without any other feature, its record is still true."""
    return [SETTINGS, OBSERVER, *_of_profile(profile), *_of_run(record)]


def _of_profile(profile: Profile) -> Iterator[Feature]:
    if profile.has(ORDER_OF_SUMS):
        yield ORDERED_SUMS
    if profile.portable:
        yield OP_AUDIT
        if profile.has(EXACT_OPERATIONS):
            yield EXACT_OPS
    if profile.threads > 1:
        yield BINCOUNT_GUARD


def _of_run(record: Record) -> Iterator[Feature]:
    if record.recipe.shuffle == PER_EPOCH:
        yield EPOCH_SHUFFLE
    if record.strict or record.trial is not None:
        yield ENTROPY_MONITOR
    if record.trial is not None:
        yield NONDETERMINISTIC_OPS
    if record.trial is not None or record.trace.has_window:  # the run ends after a number of steps
        yield STEP_TRACE
    if record.recipe.world_size > 1:
        yield MULTI_WORKER
    if record.origin.resumes is not None:
        yield EXACT_RESUME
