"""What a script is advised that asks for the network in a container."""

import pytest

from samebits.core.digest import Digest
from samebits.core.inputs_lock import InputsLock, PinnedFile
from samebits.runner.script_monitors import _advice

_URL = "https://example.com/a.csv"
_FILE = PinnedFile(path="work/a.csv", digest=Digest.of_bytes(b"1"), size=1, url=_URL)

_STORE = "inputs.lock does not name it: run `samebits fetch t.py`, and store it in a file, as keras.utils.get_file does"


@pytest.mark.parametrize(
    ("lock", "what", "advice"),
    [
        (None, _URL, "run `samebits fetch t.py` once"),
        (InputsLock.of([_FILE]), _URL, "inputs.lock has it as work/a.csv: download it only if that file is missing"),
        (
            InputsLock.of([_FILE]),
            "example.com:443",
            _STORE,
        ),
    ],
)
def test_advice(lock: InputsLock | None, what: str, advice: str) -> None:
    assert _advice(what, "t.py", lock) == advice
