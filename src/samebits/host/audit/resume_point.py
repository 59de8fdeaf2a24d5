"""Where `samebits resume` begins, by the checkpoints that exist; what they hold is not read."""

from samebits.core.checkpoint_store import Position
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.host.run_folders import was_begun_here


def describe_resume_point(run: RunDir, record: Record) -> str:
    """Where a run that can be resumed begins again, and what it must reproduce there.

    Short epochs may have no checkpoint, so that it may begin some epochs before the interruption.
    """
    positions = _usable(run, record)
    if not positions:
        return describe_start(None, None)
    text = describe_start(positions[-2] if len(positions) > 1 else None, positions[-1])
    # `resume` takes an earlier one where the ledger does not confirm it.
    return text if len(positions) < 2 or was_begun_here(run) else f"{text}; or earlier: it was not begun here"


def describe_start(start: Position | None, replays: Position | None, *, trusted: bool = False) -> str:
    """Where a resumed run begins, and what it must reproduce; None for the beginning, and for nothing."""
    if start is None and replays is None:
        return "the beginning: it has no checkpoint"
    begin = "the beginning" if start is None else str(start)
    if trusted:
        return f"{begin}, without a proof (--trust-checkpoint)"
    return f"{begin}; it must reproduce {replays} before it continues"


def _usable(run: RunDir, record: Record) -> list[Position]:
    """The positions in which every worker has a checkpoint, in order."""
    store, others = run.checkpoints_now, range(1, record.recipe.world_size)
    # What workers beside the chief kept is in no record.
    if others and not was_begun_here(run):
        return []
    common = [set(store.of_worker(index).positions()) for index in others]
    return [position for position in store.positions() if all(position in found for found in common)]
