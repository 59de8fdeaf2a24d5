"""TOML that takes long to read is refused at once."""

import time
from pathlib import Path

import pytest

from samebits.core.toml_file import parse_toml, read_toml

_SEPARATOR = '"\u2028"'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x" + f".{_SEPARATOR}" * 40_000 + " = 1", "line 1 is longer than 10,000 characters"),
        (
            "\n".join(f"k{number}{'.a' * 4_900} = 1" for number in range(5)),
            "line 1 has more than 300 dots; write it as",
        ),
        ("a = 1\nb" + ".a" * 301 + " = 1", "line 2 has more than 300 dots; write it as several lines"),
    ],
)
def test_a_long_key(text: str, complaint: str) -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match=f"^{complaint}"):
        parse_toml(text)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\n".join(f"k{number}{'.a' * 100} = 1" for number in range(4_000)), "it has more than 20,000 dots"),
        ("#" * (1 << 20) + "\n", "it is larger than 1 MiB"),
    ],
)
def test_a_large_file(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    began = time.process_time()
    with pytest.raises((OSError, ValueError), match=complaint):
        read_toml(tmp_path / "a.toml")
    assert time.process_time() - began < 1


def test_what_projects_hold_can_be_read() -> None:
    """A list of 100 requirements in one line, and a separator that ends no line of TOML."""
    listed = [f"package{number}>=1.{number}.0" for number in range(100)]
    assert parse_toml(f"dependencies = {listed}\nx.{_SEPARATOR} = 1\n") == {"dependencies": listed, "x": {"\u2028": 1}}
