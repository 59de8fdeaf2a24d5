"""Values without an identity come back from a checkpoint as they were, or are refused before."""

import enum
import json
import re
from pathlib import Path
from typing import Any

import pytest

from samebits.runner.checkpoint.encoding import Content, PathMap, encoded_member
from samebits.runner.checkpoint.restorability import check_restorable
from samebits.runner.checkpoint.restore import StateRestorer


class What(enum.Flag):
    """Flags of a script."""

    LOSS = 1
    WEIGHTS = 2
    ALL = 3


def restored(encoded: Any, live: Any) -> Any:
    """What a checkpoint holds, restored where the script has `live`."""
    restorer = StateRestorer(Content(lambda _: b""), PathMap({"run": Path("/runs/a")}))
    return restorer.value(json.loads(json.dumps(encoded)), live, "a value")


def check(captured: Any, initial: Any) -> None:
    """Whether it could be."""
    check_restorable(*({"roots": [["a value", item]], "globals": []} for item in (captured, initial)))


@pytest.mark.parametrize("live", [re.I, re.I | re.M, re.NOFLAG])
@pytest.mark.parametrize("flags", [re.I, re.I | re.M, re.NOFLAG, re.I | re.S | re.X, ~re.RegexFlag.A])
def test_flags_together(flags: re.RegexFlag, live: re.RegexFlag) -> None:
    saved, initial = ({"member": encoded_member(member)} for member in (flags, live))
    check(saved, initial)
    found = restored(saved, live)
    assert (type(found), found) == (re.RegexFlag, flags)


def test_flags_of_a_script() -> None:
    for flags in (What.LOSS, What.LOSS | What.WEIGHTS, What(0)):
        assert restored({"member": encoded_member(flags)}, What.WEIGHTS) is flags
    assert encoded_member(What.LOSS | What.WEIGHTS)["name"] == "ALL"
