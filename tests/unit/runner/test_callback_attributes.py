"""Which attributes of a callback are Keras's, and which its own."""

from typing import Any

from samebits.runner.compat.keras_private import set_by_fit


class Callback:
    """What Keras's own class stores."""

    __module__ = "keras.src.callbacks.callback"

    def __init__(self) -> None:
        self.params: Any = None
        self._model: Any = None


class Validate(Callback):
    """A callback of the script."""

    def __init__(self, data: Any) -> None:
        super().__init__()
        self.validation_data = data


class Mixin:
    """A class of the script that is no callback."""

    @property
    def twin(self) -> Any:
        """A model."""
        return self._model

    @twin.setter
    def twin(self, model: Any) -> None:
        self._model = model


class Own(Mixin, Validate):
    """One that sets what Keras sets, too."""

    def count(self) -> None:
        """Begin."""
        self.params = {"count": 0}


def test_what_the_code_of_a_script_sets_is_its_own() -> None:
    assert set_by_fit(Callback) == {"model", "_model", "params"}
    assert set_by_fit(Validate) == {"model", "_model", "params"}
    assert set_by_fit(Own) == {"model"}
