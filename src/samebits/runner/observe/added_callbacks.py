"""Add callbacks of samebits to one call of `fit`."""

from typing import Any

from samebits.runner.compat import keras_private


class added_callbacks:  # noqa: N801  reads like a function in `with`
    """Adds callbacks after those of one call of `fit`, in whatever form the script passed them."""

    def __init__(self, arguments: dict[str, Any], added: list[Any]) -> None:
        import keras

        callbacks = arguments.get("callbacks")
        self._list: Any = None
        self._callbacks = added
        # A `CallbackList` belongs to the script, which may use it again: it is extended for this call only.
        if isinstance(callbacks, keras.callbacks.CallbackList):
            self._list = callbacks
            for callback in added:
                callback.set_model(callbacks.model)
        elif callbacks is None or isinstance(callbacks, (list, tuple)):
            arguments["callbacks"] = [*(callbacks or ()), *added]
        else:
            arguments["callbacks"] = [callbacks, *added]

    def __enter__(self) -> None:
        """Extend the script's own `CallbackList`."""
        if self._list is not None:
            self._list.callbacks.extend(self._callbacks)
            # Otherwise the next step begins while a callback reads the variables of this one.
            keras_private.make_synchronous(self._list)

    def __exit__(self, *_: object) -> None:
        """Remove the callbacks from it again."""
        if self._list is not None:
            for callback in self._callbacks:
                self._list.callbacks.remove(callback)
