"""Watch a script train: every `fit`, every optimizer's steps, and the models that came out.

Public names of Keras are wrapped: `Model.__new__` (which models there are), `Model.fit` (adds a callback, as experiment
trackers' autologging does), `Optimizer.apply` (which models a loop of the script's own trains) and `clear_session`
(models before it are settled, so that they can be freed). Where steps are traced (see `tracing`), so is
`Model.train_on_batch`; where their tensors are (see `taps`), `Layer.__call__`, TensorFlow's `GradientTape` and its
`func_graph_from_py_func`, which is not public. Nothing that decides bits is touched. What checkpoints are seen by is
told in `fits` and `rounds`.
"""

import functools
import gc
import inspect
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest
from samebits.core.errors import SamebitsError
from samebits.core.jsonio import Fields, exact_float
from samebits.core.ledger import Ledger
from samebits.core.result import FitResult, ModelResult, Result, TensorDescription
from samebits.core.trace_level import DEFAULT_TRACE, Trace, TraceEnded
from samebits.runner.compat import keras_private
from samebits.runner.compat.patches import Patches
from samebits.runner.determinism.shuffle import FitShuffle
from samebits.runner.digests.tensors import (
    describe_tensor,
    describe_variables,
    group_digest,
    model_variables,
    named_variables,
)
from samebits.runner.digests.trained_models import TrainedModel, outermost, owns, save_model, trained_by
from samebits.runner.observe.fit_history import FitHistory
from samebits.runner.trace.step_tracer import StepTracer


class Observer:
    """Collects what a run trains; `models` is where trained models are saved, `tensors` where bytes of them are kept.

    `before_training` is called once, before the first step, `after_epoch` after each epoch; what they raise ends the
    run. Calls of `fit` are carried out within `fits`, `stepping` is told of an optimizer's steps before they are made,
    and `behind_steps` behind them, with the number of the model and how many they were.
    """

    def __init__(  # noqa: PLR0913  each is a part of what it observes
        self,
        ledger: Ledger,
        models: Path,
        *,
        trace: Trace = DEFAULT_TRACE,
        tensors: Path = Path(),
        shuffling: FitShuffle | None = None,
        before_training: Callable[[], None] = lambda: None,
        fits: Callable[[Any, Mapping[str, Any]], AbstractContextManager[None]] = lambda *_: nullcontext(),
        stepping: Callable[[Any], None] = lambda _: None,
        after_epoch: Callable[[], None] = lambda: None,
        behind_steps: Callable[[int, int], None] | None = None,
    ) -> None:
        self._ledger = ledger
        self._models = models
        self._shuffling = shuffling
        self._before_training: Callable[[], None] | None = before_training
        self._fits = fits
        self._stepping = stepping
        self._after_epoch = after_epoch
        self.seconds = 0.0
        self._working = threading.RLock()
        self._live: list[weakref.ref[Any]] = []
        self._optimizers: list[Any] = []
        self.trained: list[TrainedModel] = []
        self.keeps_digested = False
        self._digested: dict[int, tuple[Any, Digest]] = {}
        self.fits: list[FitHistory] = []
        self.tracer = StepTracer(
            trace, ledger.append, tensors, guard=self.work, trained=self.trained, behind_steps=behind_steps
        )
        self.error: SamebitsError | TraceEnded | None = None

    def install(self, patches: Patches) -> None:
        """Wrap Keras; must come before the script is imported."""
        import keras

        patches.wrap((keras.Model, "__new__"), self._wrap_new)
        patches.wrap((keras.Model, "fit"), self._wrap_fit)
        patches.wrap((keras.optimizers.Optimizer, "apply"), self._wrap_apply)
        self.tracer.install(patches)
        for module in (keras.utils, keras.backend):
            patches.wrap((module, "clear_session"), self._wrap_clear_session)

    def check(self) -> None:
        """Raise again what was raised in the script, which may have swallowed it."""
        if self.error is not None:
            raise self.error

    def finish(self) -> Result:
        """Settle what is left and return models and fits; raises what went wrong in a callback."""
        self.check()
        for index in range(len(self.trained)):
            self._settle(index)
        models = tuple(trained.settled for trained in self.trained if trained.settled is not None)
        self._ledger.append({"event": "end", "models": [model.digest for model in models]})
        return Result(models=models, fits=tuple(fit.result for fit in self.fits))

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
            watchers = [self._watcher(model)]
            trained = self.trained[self.fits[-1].model]
            if self.tracer.steps:
                watchers.append(self.tracer.watcher(len(self.fits) - 1, trained))
            trained.fitting += 1
            try:
                with self._fits(model, bound.arguments), _added(bound.arguments, watchers):
                    return original(*bound.args, **bound.kwargs)
            finally:
                trained.fitting -= 1
                self.tracer.left_fit()

        return fit

    def _wrap_apply(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def apply(optimizer: Any, grads: Any, trainable_variables: Any = None) -> Any:
            self._check_before_training()
            trainable_variables = trainable_variables and list(trainable_variables)  # it may be read once only
            self._stepping(optimizer)
            step = self.tracer.before_step(optimizer, grads, trainable_variables)
            answer = original(optimizer, grads, trainable_variables)
            self.stepped(optimizer)
            self.tracer.behind_step(optimizer, step)
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
        if check is not None:
            try:
                check()
            except SamebitsError as error:
                self.error = error  # a script may swallow it
                raise
        self.check()

    def digested(self) -> Mapping[int, tuple[Any, Digest]]:
        """Values and digests of the variables in the line of the epoch that just ended, by their id; once."""
        found, self._digested = self._digested, {}
        return found

    def told(self) -> dict[str, Any]:
        """What was seen so far, for a run that goes on from here."""
        fits = [{"model": fit.model, "epochs": fit.epochs, "history": deepcopy(fit.history)} for fit in self.fits]
        return {"fits": fits, "loops": self.tracer.counts(), "trained": [trained.how for trained in self.trained]}

    def tell(self, told: Mapping[str, Any]) -> None:
        """Take over what was seen before this run went on."""
        fields = Fields(told, "state.told")
        for number, item in enumerate(fields.objects("fits")):
            self.fits[number : number + 1] = [FitHistory.resumed(FitResult.from_fields(item))]
        self.tracer.count_from(fields.mapping("loops", int))
        for trained, how in zip(self.trained, fields.texts("trained"), strict=False):
            trained.how = how

    def first_steps(self) -> Sequence[Any]:
        """The optimizers that were seen to make a step, in the order of their first ones."""
        return self._optimizers

    def stepped(self, optimizer: Any) -> None:
        """An optimizer has made a step; the first one shows whose variables it trains."""
        if not any(optimizer is seen for seen in self._optimizers):
            self._optimizers.append(optimizer)
            self._stepped(optimizer)

    @contextmanager
    def work(self) -> Iterator[None]:
        """Our own work in the midst of the script: its seconds are counted, and what ends the run is remembered."""
        with self._working:  # a graph may call from several threads
            self.check()
            started = time.perf_counter()
            try:
                yield
            except (SamebitsError, TraceEnded) as error:
                self.error = error
                raise
            finally:
                self.seconds += time.perf_counter() - started

    def _watcher(self, model: Any) -> Any:
        """A callback for one call of `fit`."""
        import keras

        index = self._register(model, "fit")
        fit = FitHistory(model=index)
        self.fits.append(fit)
        number = len(self.fits) - 1

        class Watcher(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
            def on_epoch_begin(watcher, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002, N805
                if self._shuffling is not None:
                    self._shuffling.start_epoch(number, epoch)

            def on_epoch_end(watcher, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: N805
                with self.work():
                    self._epoch(number, epoch, logs or {})
                self._after_epoch()

        return Watcher()

    def _epoch(self, number: int, epoch: int, logs: dict[str, Any]) -> None:
        self._digested = {}
        fit = self.fits[number]
        trained = self.trained[fit.model]
        metrics = {name: _exact(value) for name, value in sorted(logs.items())}
        for name, value in metrics.items():
            fit.history.setdefault(name, []).append(value)
        fit.epochs += 1
        groups = {}
        for name, variables in model_variables(trained.target).items():
            named = named_variables(variables)
            described = describe_tensor(named)
            groups[name] = group_digest(described)
            if self.keeps_digested:
                for variable, item, told in zip(variables, named, described, strict=True):
                    self._digested[id(variable)] = item.array, Digest.parse(told["digest"])
        line = {"event": "epoch", "fit": number, "epoch": epoch, "model": trained.name}
        self._ledger.append({**line, "metrics": metrics, "tensors": groups})

    def _register(self, model: Any, how: str) -> int:
        for index, trained in enumerate(self.trained):
            if trained.target is model:
                return index
        self.trained.append(TrainedModel(name=model.name, how=how, target=model))
        return len(self.trained) - 1

    def _stepped(self, optimizer: Any) -> None:
        """An optimizer's first step: find whose variables it trains."""
        if any(trained.fitting and trained.target.optimizer is optimizer for trained in self.trained):
            return  # a `fit` that uses its own model's optimizer has told already
        variables = trained_by(optimizer)
        gc.collect()  # so that which models are alive does not hang on when this was last done
        alive = [model for model in (reference() for reference in self._live) if model is not None]
        owners = [model for model in alive if getattr(model, "built", False) and owns(model, variables)]
        for model in outermost(owners):
            trained = self.trained[self._register(model, "loop")]
            if getattr(model, "optimizer", None) is not optimizer:
                trained.optimizers.append(optimizer)
        if not owners:
            self.trained.append(TrainedModel(name=optimizer.name, how="variables", target=None, optimizers=[optimizer]))

    def _settle(self, index: int) -> None:
        """Digest a trained model, save it and let go of it."""
        trained = self.trained[index]
        if trained.settled is not None:
            return
        tensors = {name: describe_variables(variables) for name, variables in trained.variables().items()}
        if trained.target is not None:
            save_model(trained.target, self._models, index)
        groups = [{"group": group, "tensors": described} for group, described in sorted(tensors.items())]
        trained.settled = ModelResult(
            name=trained.name,
            how=trained.how,
            tensors={group: tuple(map(_tensor, described)) for group, described in tensors.items()},
            digest=group_digest(groups),
        )
        trained.target = None
        trained.optimizers = []


class _added:  # noqa: N801  reads as a word in `with`
    """The watchers behind the callbacks of one call of `fit`, whatever form they were given in."""

    def __init__(self, arguments: dict[str, Any], watchers: list[Any]) -> None:
        import keras

        callbacks = arguments.get("callbacks")
        self._list: Any = None
        self._watchers = watchers
        if isinstance(callbacks, keras.callbacks.CallbackList):
            self._list = callbacks
            for watcher in watchers:
                watcher.set_model(callbacks.model)
        elif callbacks is None or isinstance(callbacks, (list, tuple)):
            arguments["callbacks"] = [*(callbacks or ()), *watchers]
        else:
            arguments["callbacks"] = [callbacks, *watchers]

    def __enter__(self) -> None:
        if self._list is not None:
            self._list.callbacks.extend(self._watchers)
            keras_private.make_synchronous(self._list)  # else the next step begins while one is looked at

    def __exit__(self, *_: object) -> None:
        if self._list is not None:
            for watcher in self._watchers:
                self._list.callbacks.remove(watcher)


def _tensor(described: Mapping[str, Any]) -> TensorDescription:
    return TensorDescription(**{**described, "shape": tuple(described["shape"])})


def _exact(value: Any) -> str:
    """A metric as an exact float; a metric that is no number as its text."""
    try:
        return exact_float(float(value))
    except (TypeError, ValueError):
        return str(value)
