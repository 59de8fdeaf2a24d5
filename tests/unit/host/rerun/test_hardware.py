"""What a recipe asks of this host's processor."""

from dataclasses import replace

import pytest

from samebits.core.cpu_info import describe_cpu
from samebits.core.record import Record
from samebits.host.rerun import hardware


@pytest.mark.parametrize(
    ("recorded", "here", "profile", "blocks"),
    [
        ("x86-64-v3", "x86-64-v3", "native", ()),
        ("x86-64-v3", "x86-64-v4", "native", ("bitwise",)),
        ("x86-64-v4", "x86-64-v3", "native", ("bitwise",)),
        ("x86-64-v3", "x86-64-v4", "portable", ()),
        ("x86-64-v3", "x86-64-v2", "portable", ("bitwise", "metrics", "documented")),
    ],
)
def test_instruction_sets(
    recorded: str, here: str, profile: str, blocks: tuple[str, ...], example: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The native profile needs the recorded one, the portable profile any that will do."""
    monkeypatch.setattr(hardware, "describe_cpu", lambda: replace(describe_cpu(), instruction_set=here, model="a CPU"))
    monkeypatch.setattr("samebits.core.run_setup.instruction_set", lambda: here)
    record = replace(example, recipe=replace(example.recipe, instruction_set=recorded, profile=profile))
    rows = {row.name: row for row in hardware.hardware(record)}
    assert rows["instructions"].blocks == blocks
