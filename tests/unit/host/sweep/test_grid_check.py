"""A misspelled argument of a grid is found before any run, where the script says what it takes."""

from pathlib import Path

import pytest

from samebits.core.errors import InputError
from samebits.host.sweep.grid_check import check_grid

_KNOWN = "p.add_argument('--lr', type=float)\np.add_argument('-n', '--units')\np.add_argument('name')\n"


def _check(tmp_path: Path, text: str, *names: str) -> None:
    path = tmp_path / "train.py"
    path.write_text(text)
    check_grid(names, [path])


@pytest.mark.parametrize("name", ["lr", "units", "unit"])
def test_known_names_and_their_beginnings(tmp_path: Path, name: str) -> None:
    _check(tmp_path, _KNOWN, name)


def test_a_misspelled_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^the script has no argument --lrr; did you mean --lr\?$"):
        _check(tmp_path, _KNOWN, "lr", "lrr")
    with pytest.raises(InputError, match=r"^the script has no argument --epochs; it has --lr, --units$"):
        _check(tmp_path, _KNOWN, "epochs")


@pytest.mark.parametrize(
    "text",
    [
        "import sys\n",
        _KNOWN + "p.parse_known_args()\n",
        _KNOWN + "for n in names: p.add_argument('--' + n)\n",
        _KNOWN + "p.add_argument(*names)\n",
        _KNOWN + "def\n",
    ],
)
def test_what_cannot_be_told_is_not_refused(tmp_path: Path, text: str) -> None:
    _check(tmp_path, text, "anything")
