"""Which output files count in a result, and by what; those that hold no tensors."""

from pathlib import Path

import pytest

from samebits.core.digest import Digest
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
    found = describe_outputs(tmp_path, ignore)
    assert [item.path for item in found] == left
    assert [item.digest for item in found] == [str(Digest.of_bytes(name.encode())) for name in left]


def test_a_link_counts_by_where_it_leads(tmp_path: Path) -> None:
    """Also one that leads nowhere."""
    (tmp_path / "one").symlink_to("gone")
    (tmp_path / "two").symlink_to("/gone")
    found = describe_outputs(tmp_path, ())
    assert [(item.path, item.by) for item in found] == [("one", "link"), ("two", "link")]
    assert found[0].digest != found[1].digest
