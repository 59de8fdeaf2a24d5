"""A run that was killed resumes to the same bits, or is refused by name, wherever its script holds what kind of state.

The cases are generated (`support/state_cases.py`). A sample that covers every pair of their parts is in the usual lane,
all of them are in `make test-all`. Each is trained as a whole, killed after an epoch and resumed, in the real runner.
"""

from collections import Counter
from pathlib import Path

import pytest

from support.lanes import long_tail
from support.state_cases import HOLDERS, KINDS, NAMES, Case, every_case, script_of, spread
from support.state_runs import REFUSED, SAME, Cases, Ended

pytestmark = pytest.mark.usefixtures("locked")

CASES = every_case()


@pytest.fixture(scope="module")
def ended(locked: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[Case, Ended]:
    """How all cases ended that are asked for in this session."""
    asked = [item.callspec.params["case"] for item in request.session.items if _is_of_a_case(item)]
    return Cases(tmp_path_factory.mktemp("states"), asked).judge()


def _is_of_a_case(item: pytest.Item) -> bool:
    return getattr(item, "originalname", "") == test_the_same_bits_or_refused.__name__


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", long_tail(CASES, spread(CASES)), ids=str)
def test_the_same_bits_or_refused(case: Case, ended: dict[Case, Ended]) -> None:
    found = ended[case]
    assert found.verdict in (SAME, REFUSED), f"{found}\n{script_of(case)}"
    if found.verdict == REFUSED:
        assert found.names(case), f"does not name what cannot be resumed: {found.why}"
