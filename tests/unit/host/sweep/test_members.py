"""Seeds and grids as they are written on the command line."""

import pytest

from samebits.core.errors import InputError
from samebits.host.sweep.members import Member, members_of, parse_grid, parse_seeds


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0-3", (0, 1, 2, 3)), ("7", (7,)), ("5,1", (5, 1)), ("1, 3-4", (1, 3, 4)), ("4294967295", (4294967295,))],
)
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "--seeds takes numbers and ranges such as 0-9 or 1,5,7, not ''"),
        ("9-0", "--seeds takes numbers and ranges such as 0-9 or 1,5,7, not '9-0'"),
        ("1,,2", "--seeds takes numbers and ranges such as 0-9 or 1,5,7, not '1,,2'"),
        ("-1", "--seeds takes numbers and ranges such as 0-9 or 1,5,7, not '-1'"),
        ("²", "--seeds takes numbers and ranges such as 0-9 or 1,5,7, not '²'"),
        ("0-3,2", "--seeds names 1 value twice: 2; name each once"),
        ("0-9999999999", "a sweep has at most 10000 runs, not 10000000000; split it"),
    ],
)
def test_no_seeds(text: str, complaint: str) -> None:
    with pytest.raises(InputError) as error:
        parse_seeds(text)
    assert str(error.value) == complaint


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["lr"], "--grid takes NAME=VALUE,VALUE for the script's argument --NAME, not 'lr'"),
        (["lr=1,"], "--grid takes NAME=VALUE,VALUE for the script's argument --NAME, not 'lr=1,'"),
        (["--lr=1"], "--grid takes NAME=VALUE,VALUE for the script's argument --NAME, not '--lr=1'"),
        (["lr=1,1"], "--grid lr names 1 value twice: 1; name each once"),
        (["lr=1", "lr=2"], "the script's argument --lr is given twice; remove one"),
        (["epochs=1"], "the script's argument --epochs is given twice; remove one"),
        (["rate=1"], "the script's argument --rate is given twice; remove one"),
    ],
)
def test_no_grid(texts: list[str], complaint: str) -> None:
    with pytest.raises(InputError) as error:
        parse_grid(texts, ["--epochs", "3", "--rate=1"])
    assert str(error.value) == complaint


def test_every_combination_with_every_seed() -> None:
    grid = parse_grid(["lr=0.1,0.2", "width=8"])
    found = members_of((1, 2), grid)
    assert [str(member) for member in found] == [
        "lr=0.1, width=8, seed 1",
        "lr=0.1, width=8, seed 2",
        "lr=0.2, width=8, seed 1",
        "lr=0.2, width=8, seed 2",
    ]
    assert found[2].arguments == ("--lr=0.2", "--width=8")
    assert members_of((3,), {}) == (Member(seed=3),)
    with pytest.raises(InputError, match="at most 10000 runs, not 10200"):
        members_of(range(5100), {"a": ("1", "2")})
