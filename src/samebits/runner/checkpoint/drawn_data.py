"""Which random generators the data drew from while a resumed run skipped the finished steps of an epoch.

These have advanced already. All others are restored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samebits.core.errors import shorten
from samebits.runner.checkpoint.fit_phase import without_number
from samebits.runner.checkpoint.process_state.library_state import NOT_DRAWN, STREAMS
from samebits.runner.checkpoint.state.encoding import UncapturableError

Roots = Mapping[str, Any]
"""The roots of a checkpoint by name, encoded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnByData:
    """`generators` are names of roots. `streams` are TensorFlow's, each with its state now.

    `unsure` are those of both that something else than the data may have drawn from, too: the checkpoint holds another
    state than the data alone reaches. So it is, too, where the original run prepared data ahead.
    """

    generators: frozenset[str] = frozenset()
    streams: Mapping[str, str]
    unsure: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise UncapturableError where only a replay would show that the state is right."""
        if self.unsure:
            raise UncapturableError(
                f"the data draws from {shorten(self.unsure, 2)}, and something else may do so, too, which only the"
                " replayed steps would show; resume without --trust-checkpoint"
            )


def drawn_by_data(begun: Roots, now: Roots, saved: Roots) -> DrawnByData:
    """Compare the state now with that at the beginning of the epoch, and with that in the checkpoint."""
    changed = _changed(begun, now) - NOT_DRAWN - {STREAMS}
    before, after, stored = (_streams(roots) for roots in (begun, now, saved))
    streams = {name: after[name] for name in sorted(_changed(before, after))}
    unsure = {name for name in changed if without_number(now[name]) != without_number(saved.get(name))}
    return DrawnByData(
        generators=frozenset(changed),
        streams=streams,
        unsure=(*sorted(unsure), *(name for name, state in streams.items() if stored.get(name) != state)),
    )


def _changed(before: Roots, after: Roots) -> set[str]:
    return {name for name in after if without_number(after[name]) != without_number(before.get(name))}


def _streams(roots: Roots) -> dict[str, str]:
    return dict(roots.get(STREAMS, {"dict": []})["dict"])
