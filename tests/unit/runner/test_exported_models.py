"""A model that is exported during training makes a run not resumable."""

from pathlib import Path

import pytest

from samebits.runner.checkpoint.encoding import UncapturableError
from samebits.runner.checkpoint.exported_models import check_exported, exported_models


@pytest.mark.parametrize("where", ["code", "outputs"])
def test_a_model_that_was_not_there_is_refused(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMEBITS_OUTPUT", str(tmp_path / "outputs"))
    code, folder = str(tmp_path / "code"), tmp_path / where / "model"
    before = exported_models(code)
    folder.mkdir(parents=True)
    check_exported(code, before)
    (folder / "saved_model.pb").touch()
    with pytest.raises(UncapturableError, match=r"^the model model is exported during training"):
        check_exported(code, before)
    check_exported(code, exported_models(code))
