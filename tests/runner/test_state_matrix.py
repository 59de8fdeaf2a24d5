"""A run that was killed resumes to the same bits, or is refused by name, wherever its script holds what kind of state.

The cases are generated (`support/state_cases.py`). A third of a sample is in the usual lane, and all of them in
`make test-all`; the sample covers the pairs of their parts, but for some pairs with the kind. Each is trained as a
whole, killed after an epoch and resumed, in the real runner.
"""

from pathlib import Path

import pytest

from support.lanes import long_tail
from support.state_cases import KINDS, Case, every_case, script_of, spread
from support.state_runs import REFUSED, SAME, WRONG, Cases, Ended, judged

pytestmark = pytest.mark.usefixtures("locked")

CASES = every_case()
USUAL = spread(CASES, apart=[("holder", "kind"), ("container", "kind")])[::3]


@pytest.fixture(scope="module")
def ended(locked: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[Case, Ended]:
    """How all cases ended that are asked for in this session."""
    assert locked is None
    asked = [case for item in request.session.items if (case := _case_of(item)) is not None]
    return Cases(tmp_path_factory.mktemp("states"), asked).judge()


def _case_of(item: pytest.Item) -> Case | None:
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return parameters["case"] if getattr(item, "originalname", "") == "test_the_same_bits_or_refused" else None


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("case", long_tail(CASES, USUAL), ids=str)
def test_the_same_bits_or_refused(case: Case, ended: dict[Case, Ended]) -> None:
    found = ended[case]
    assert found.verdict in (SAME, REFUSED), f"{found}\n{script_of(case)}"


@pytest.mark.slow
def test_each_kind_of_value_matters(tmp_path: Path) -> None:
    """A value that does not change gives other bits, and the harness calls that wrong: lost state is seen."""
    cases = [Case("Callback", "public", "attribute", kind, "callback", "eager") for kind in KINDS]
    texts = [script_of(case, changing=changing) for case in cases for changing in (True, False)]
    runs = Cases(tmp_path, []).train(texts)
    found = {
        case.kind: judged(one, other).verdict for case, one, other in zip(cases, runs[::3], runs[1::2], strict=True)
    }
    assert found == dict.fromkeys(KINDS, WRONG)
