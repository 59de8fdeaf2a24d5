"""Watch a script train: every `fit`, every optimizer's steps, and the models that came out.

Four public names of Keras are wrapped: `Model.__new__` (which models there are), `Model.fit` (adds a callback, as
experiment trackers' autologging does), `Optimizer.apply` (which models a loop of the script's own trains) and
`clear_session` (models before it are settled, so that they can be freed). Nothing that decides bits is touched.
"""

import functools
import gc
import inspect
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samebits.codec import exact_float
from samebits.container.shuffling import Shuffling
from samebits.container.tensors import describe_variables, group_digest, model_variables
from samebits.errors import SamebitsError
from samebits.ledger import Ledger


@dataclass(kw_only=True, slots=True)
class Trained:
    """One model (or, without one, the variables of an optimizer) that was trained; `settled` once it is digested."""

    name: str
    how: str
    target: Any
    optimizers: list[Any] = field(default_factory=list)
    fitting: int = 0
    settled: dict[str, Any] | None = None


@dataclass(kw_only=True, slots=True)
class Fit:
    """One call of `fit`: the index of its model, and each metric's values by epoch as exact floats."""

    model: int
    history: dict[str, list[str]] = field(default_factory=dict)
    epochs: int = 0


class Observer:
    """Collects what a run trains; `models` is where trained models are saved.

    `before_training` is called once, before the first step, `after_epoch` after each epoch; what they raise ends the
    run.
    """

    def __init__(
        self,
        ledger: Ledger,
        models: Path,
        *,
        shuffling: Shuffling | None = None,
        before_training: Callable[[], None] = lambda: None,
        after_epoch: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._models = models
        self._shuffling = shuffling
        self._before_training: Callable[[], None] | None = before_training
        self._after_epoch = after_epoch
        self.seconds = 0.0
        self._live: list[weakref.ref[Any]] = []
        self._optimizers: list[Any] = []
        self.trained: list[Trained] = []
        self.fits: list[Fit] = []
        self.error: SamebitsError | None = None

    def install(self) -> None:
        """Wrap Keras; must come before the script is imported."""
        import keras

        if self._shuffling is not None:
            self._shuffling.install()
        keras.Model.__new__ = self._wrap_new(keras.Model.__new__)
        keras.Model.fit = self._wrap_fit(keras.Model.fit)
        keras.optimizers.Optimizer.apply = self._wrap_apply(keras.optimizers.Optimizer.apply)
        for module in (keras.utils, keras.backend):
            module.clear_session = self._wrap_clear_session(module.clear_session)

    def finish(self) -> dict[str, Any]:
        """Settle what is left and return the models and fits of the result; raises what went wrong in a callback."""
        if self.error is not None:
            raise self.error
        for index in range(len(self.trained)):
            self._settle(index)
        models = [trained.settled for trained in self.trained]
        self._ledger.append({"event": "end", "models": [model["digest"] for model in models if model]})
        fits = [{"model": fit.model, "epochs": fit.epochs, "history": fit.history} for fit in self.fits]
        return {"models": models, "fits": fits}

    def _wrap_new(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def new(cls: type, *args: Any, **kwargs: Any) -> Any:
            model = original(cls, *args, **kwargs)
            self._live.append(weakref.ref(model))
            return model

        return new

    def _wrap_fit(self, original: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)

        @functools.wraps(original)
        def fit(model: Any, *args: Any, **kwargs: Any) -> Any:
            self._check_before_training()
            bound = signature.bind_partial(model, *args, **kwargs)
            watcher = self._watcher(model)
            trained = self.trained[self.fits[-1].model]
            trained.fitting += 1
            try:
                with _added(bound.arguments, watcher):
                    return original(*bound.args, **bound.kwargs)
            finally:
                trained.fitting -= 1

        return fit

    def _wrap_apply(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def apply(optimizer: Any, grads: Any, trainable_variables: Any = None) -> Any:
            self._check_before_training()
            answer = original(optimizer, grads, trainable_variables)
            if not any(optimizer is seen for seen in self._optimizers):
                self._optimizers.append(optimizer)
                self._stepped(optimizer)
            return answer

        return apply

    def _wrap_clear_session(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def clear_session(*args: Any, **kwargs: Any) -> Any:
            for index, trained in enumerate(self.trained):
                if not trained.fitting:  # a callback may call this in the middle of a fit
                    self._settle(index)
            self._optimizers.clear()
            return original(*args, **kwargs)

        return clear_session

    def _check_before_training(self) -> None:
        check, self._before_training = self._before_training, None
        if check is None:
            return
        try:
            check()
        except SamebitsError as error:
            self.error = error  # a script may swallow it
            raise

    def _watcher(self, model: Any) -> Any:
        """A callback for one call of `fit`."""
        import keras

        index = self._register(model, "fit")
        fit = Fit(model=index)
        self.fits.append(fit)
        number = len(self.fits) - 1

        class Watcher(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
            def on_epoch_begin(watcher, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002, N805
                if self._shuffling is not None:
                    self._shuffling.start_epoch(number, epoch)

            def on_epoch_end(watcher, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: N805
                started = time.perf_counter()
                self._epoch(number, epoch, logs or {})
                self.seconds += time.perf_counter() - started
                self._after_epoch()

        return Watcher()

    def _epoch(self, number: int, epoch: int, logs: dict[str, Any]) -> None:
        fit = self.fits[number]
        trained = self.trained[fit.model]
        metrics = {name: _exact(value) for name, value in sorted(logs.items())}
        for name, value in metrics.items():
            fit.history.setdefault(name, []).append(value)
        fit.epochs += 1
        groups = {
            name: group_digest(describe_variables(variables))
            for name, variables in model_variables(trained.target).items()
        }
        line = {"event": "epoch", "fit": number, "epoch": epoch, "model": trained.name}
        try:
            self._ledger.append({**line, "metrics": metrics, "tensors": groups})
        except SamebitsError as error:
            self.error = error  # a script may swallow what a callback raises
            raise

    def _register(self, model: Any, how: str) -> int:
        for index, trained in enumerate(self.trained):
            if trained.target is model:
                return index
        self.trained.append(Trained(name=model.name, how=how, target=model))
        return len(self.trained) - 1

    def _stepped(self, optimizer: Any) -> None:
        """An optimizer's first step: find whose variables it trains."""
        if any(trained.fitting and trained.target.optimizer is optimizer for trained in self.trained):
            return  # a `fit` that uses its own model's optimizer has told already
        variables = _trained_by(optimizer)
        gc.collect()  # so that which models are alive does not hang on when this was last done
        alive = [model for model in (reference() for reference in self._live) if model is not None]
        owners = [model for model in alive if getattr(model, "built", False) and _owns(model, variables)]
        for model in _outermost(owners):
            trained = self.trained[self._register(model, "loop")]
            if getattr(model, "optimizer", None) is not optimizer:
                trained.optimizers.append(optimizer)
        if not owners:
            self.trained.append(Trained(name=optimizer.name, how="variables", target=None, optimizers=[optimizer]))

    def _settle(self, index: int) -> None:
        """Digest a trained model, save it and let go of it."""
        trained = self.trained[index]
        if trained.settled is not None:
            return
        groups = {} if trained.target is None else model_variables(trained.target)
        for number, optimizer in enumerate(trained.optimizers):
            groups[f"loop_optimizer_{number}"] = list(optimizer.variables)
            if trained.target is None:
                groups["variables"] = _trained_by(optimizer)
        tensors = {name: describe_variables(variables) for name, variables in groups.items()}
        body = {"name": trained.name, "how": trained.how, "tensors": tensors}
        if trained.target is not None:
            save_model(trained.target, self._models, index)
        trained.settled = body | {
            "digest": group_digest(
                [{"group": group, "tensors": described} for group, described in sorted(tensors.items())]
            )
        }
        trained.target = None
        trained.optimizers = []


class _added:  # noqa: N801  reads as a word in `with`
    """The watcher among the callbacks of one call of `fit`, whatever form they were given in."""

    def __init__(self, arguments: dict[str, Any], watcher: Any) -> None:
        import keras

        callbacks = arguments.get("callbacks")
        self._list: list[Any] | None = None
        self._watcher = watcher
        if isinstance(callbacks, keras.callbacks.CallbackList):
            self._list = callbacks.callbacks
            watcher.set_model(callbacks.model)
        elif callbacks is None or isinstance(callbacks, (list, tuple)):
            arguments["callbacks"] = [*(callbacks or ()), watcher]
        else:
            arguments["callbacks"] = [callbacks, watcher]

    def __enter__(self) -> None:
        if self._list is not None:
            self._list.append(self._watcher)

    def __exit__(self, *_: object) -> None:
        if self._list is not None:
            self._list.remove(self._watcher)


def save_model(model: Any, folder: Path, index: int) -> None:
    """Save a trained model as `.keras`, else its weights alone, else nothing: the digests are kept either way."""
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in model.name)
    for suffix, save in ((".keras", model.save), (".weights.h5", model.save_weights)):
        path = folder / f"{index}-{name}{suffix}"
        try:
            save(path)
            return
        except Exception:  # noqa: BLE001  whatever a user's layer raises
            path.unlink(missing_ok=True)


def _exact(value: Any) -> str:
    """A metric as an exact float; a metric that is no number as its text."""
    try:
        return exact_float(float(value))
    except (TypeError, ValueError):
        return str(value)


def _trained_by(optimizer: Any) -> list[Any]:
    """The variables that an optimizer was built for."""
    return list(optimizer._trainable_variables)  # noqa: SLF001  there is no public name


def _owns(model: Any, variables: list[Any]) -> bool:
    known = {id(variable) for variable in model.trainable_variables}
    return any(id(variable) in known for variable in variables)


def _outermost(models: list[Any]) -> list[Any]:
    """Those that are no part of another one; a Sequential keeps a functional twin of itself besides its layers."""
    inner: set[int] = set()
    for model in models:
        inner |= {id(layer) for layer in model._flatten_layers(include_self=False)}  # noqa: SLF001  also nested ones
        inner.add(id(getattr(model, "_functional", None)))
    return [model for model in models if id(model) not in inner]
