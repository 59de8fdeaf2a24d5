"""What a checkpoint holds: objects, files, what was observed, what its phase adds, and the bytes of all these."""

from collections.abc import Mapping, Sequence
from typing import Any

from samebits.core.checkpoint_store import Checkpoint, Position
from samebits.core.digest import Digest
from samebits.core.jsonio import canonical_json
from samebits.core.ledger import Ledger
from samebits.runner.checkpoint.files.output_files import stored_digests
from samebits.runner.checkpoint.phases import StatePart, TrainingObserver
from samebits.runner.checkpoint.state.capture import StateCapture


def checkpoint_of(
    position: Position,
    captured: StateCapture,
    part: StatePart,
    files: Mapping[str, Mapping[str, Any]],
    observer: TrainingObserver | None,
    *,
    recipe: Digest,
    ledger: Ledger,
) -> tuple[Checkpoint, Mapping[str, Any]]:
    """The checkpoint at the ledger's last line, and the bytes by their digest that must be stored with it.

    `files` are captured files and folders, whose bytes are stored already.
    """
    state: dict[str, Any] = {
        "objects": captured.encoded,
        "stepped": [] if observer is None else _indices(observer.first_steps(), captured.optimizers),
        "told": {} if observer is None else observer.observations(),
        **files,
        **part.values,
    }
    # Text that is not valid JSON, such as half of a surrogate pair, must fail here and not in the writer.
    canonical_json(state)
    contents = {**part.contents, **captured.contents}
    written = {digest for found in files.values() for digest in stored_digests(found)}
    checkpoint = Checkpoint(
        position=position,
        recipe=recipe,
        lines=ledger.lines,
        last=ledger.last,
        state=state,
        objects=tuple(sorted(contents.keys() | written)),
    )
    return checkpoint, contents


def _indices(wanted: Sequence[Any], known: Sequence[Any]) -> list[int]:
    """The index in `known` of each wanted object that is there."""
    return [index for item in wanted for index, other in enumerate(known) if item is other]
