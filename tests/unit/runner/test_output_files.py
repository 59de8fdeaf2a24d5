"""Which output files count in a result, and by what; those that hold no tensors."""

from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.core.recipe import KNOWN_LOGS
from samebits.runner.digests.output_files import describe_outputs


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        ((), ["a.log", "deep/a.log", "deep/b.csv"]),
        (("a.log",), ["deep/a.log", "deep/b.csv"]),
        (("deep/*",), ["a.log"]),
        (("*.log",), ["deep/b.csv"]),
        (("b.csv",), ["a.log", "deep/a.log", "deep/b.csv"]),
    ],
)
def test_what_is_ignored(ignore: tuple[str, ...], left: list[str], tmp_path: Path) -> None:
    """A pattern is held against the whole path within the outputs."""
    (tmp_path / "deep").mkdir()
    for name in ("a.log", "deep/a.log", "deep/b.csv"):
        (tmp_path / name).write_text(name)
    found, left_out = describe_outputs(tmp_path, ignore)
    assert [item.path for item in found] == left
    assert sorted((*left, *left_out)) == ["a.log", "deep/a.log", "deep/b.csv"]
    assert [item.digest for item in found] == [str(Digest.of_bytes(name.encode())) for name in left]


def test_what_tensorboard_reads_is_a_known_log(tmp_path: Path) -> None:
    """Its files hold times and the name of the host."""
    event = "events.out.tfevents.1795773515.host.12.0.v2"
    names = (event, f"logs/train/{event}", "logs/plugins/profile/2026_11_27/host.xplane.pb", "logs/train/notes.txt")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found, left_out = describe_outputs(tmp_path, KNOWN_LOGS)
    assert [item.path for item in found] == ["logs/train/notes.txt"]
    assert left_out == tuple(sorted(names[:3]))


def test_a_link_counts_by_where_it_leads(tmp_path: Path) -> None:
    """Also one that leads nowhere."""
    (tmp_path / "one").symlink_to("gone")
    (tmp_path / "two").symlink_to("/gone")
    found = describe_outputs(tmp_path, ())[0]
    assert [(item.path, item.by) for item in found] == [("one", "link"), ("two", "link")]
    assert found[0].digest != found[1].digest
