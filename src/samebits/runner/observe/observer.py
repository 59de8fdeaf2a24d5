"""Observe how a script trains: every `fit`, every optimizer's steps, and the trained models.

Public names of Keras are wrapped, and nothing that affects results is changed:

- Layers, variables and their assignments (`inventory`): what exists and changes beside all this.
- `Model.fit`: adds a callback, as the autologging of experiment trackers does.
- `Optimizer.apply`: which models a custom loop trains.
- `clear_session`: models from before it are digested, so that they can be freed.

`trace.step_tracer` and `trace.graph_taps` wrap more where steps or tensors are traced, and
`checkpoint.fit_checkpoints` and `checkpoint.loop_checkpoints` where checkpoints are written.
"""

import functools
import inspect
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest
from samebits.core.errors import SamebitsError
from samebits.core.jsonio import Fields, exact_float
from samebits.core.ledger import Ledger, line_place
from samebits.core.result import FitResult, Result
from samebits.core.trace_level import DEFAULT_TRACE, Trace, TraceEnded
from samebits.runner.compat.patches import Patches
from samebits.runner.determinism.shuffle import FitShuffle
from samebits.runner.digests.tensors import (
    Comparison,
    DescribedGroups,
    VariableGroups,
    describe_tensor,
    group_digest,
    ignore_comparison,
    model_variables,
    named_variables,
)
from samebits.runner.digests.trained_models import TrainedModel, outermost, owns, trained_by
from samebits.runner.observe.added_callbacks import added_callbacks
from samebits.runner.observe.fit_history import FitHistory
from samebits.runner.observe.inventory import Inventory
from samebits.runner.observe.settling import Settling
from samebits.runner.trace.step_tracer import StepTracer


class Observer:
    """Collects what a run trains. Trained models are saved under `models`, traced tensors under `tensors`.

    It calls the other components, and what they raise ends the run:

    - `before_training`: once, before the first step.
    - `fits`: a context manager around each call of `fit`.
    - `stepping`: before each step of an optimizer.
    - `after_steps`: after steps, with the index of the model and the number of steps.
    - `inspect`: after each epoch, before a checkpoint is written.
    - `after_epoch`: after that.
    """

    def __init__(  # noqa: PLR0913  each is a component that it calls
        self,
        ledger: Ledger,
        models: Path,
        *,
        trace: Trace = DEFAULT_TRACE,
        tensors: Path = Path(),
        shuffle: FitShuffle | None = None,
        before_training: Callable[[], None] = lambda: None,
        fits: Callable[[Any, Mapping[str, Any]], AbstractContextManager[None]] = lambda *_: nullcontext(),
        stepping: Callable[[Any], None] = lambda _: None,
        inspect: Callable[[], None] = lambda: None,
        after_epoch: Callable[[], None] = lambda: None,
        after_steps: Callable[[int, int], None] | None = None,
    ) -> None:
        self._ledger = ledger
        self._shuffle = shuffle
        self._before_training: Callable[[], None] | None = before_training
        self._fits = fits
        self._stepping = stepping
        self._inspect = inspect
        self._after_epoch = after_epoch
        self.seconds = 0.0
        self._working = threading.RLock()
        self._inventory = Inventory()
        self._optimizers: list[Any] = []
        self.trained: list[TrainedModel] = []
        self.compare: Comparison = ignore_comparison
        self.settling = Settling(self.trained, self._inventory, models, self._compare_settled)
        self.keeps_digested = False
        self._digested: dict[int, tuple[Any, Digest]] = {}
        self.fits: list[FitHistory] = []
        self.tracer = StepTracer(
            trace, ledger.append, tensors, guard=self.work, trained=self.trained, after_steps=after_steps
        )
        self.error: SamebitsError | TraceEnded | None = None

    def install(self, patches: Patches) -> None:
        """Wrap Keras. Call it before the script is imported."""
        import keras

        self._inventory.install(patches)
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
        """Digest the remaining models, and return models and fits. Raises an error that a callback raised."""
        self.check()
        for index in range(len(self.trained)):
            self.settling.settle(index)
        self.settling.settle_others(all_alive=True)
        self.settling.settle_variables()
        models = tuple(trained.settled for trained in self.trained if trained.settled is not None)
        self._ledger.append({"event": "end", "models": [model.digest for model in models]})
        return Result(models=models, fits=tuple(fit.result for fit in self.fits))

    def _wrap_fit(self, original: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)

        @functools.wraps(original)
        def fit(model: Any, *args: Any, **kwargs: Any) -> Any:
            self._check_before_training()
            # Subclasses and positional arguments: the signature finds `callbacks` wherever it was passed.
            bound = signature.bind_partial(model, *args, **kwargs)
            callbacks = [self._callback(model)]
            trained = self.trained[self.fits[-1].model]
            if self.tracer.steps:
                callbacks.append(self.tracer.watcher(len(self.fits) - 1, trained))
            # While `fitting`, `clear_session` leaves the model alone, and its optimizer starts no new entry.
            trained.fitting += 1
            try:
                with self._fits(model, bound.arguments), added_callbacks(bound.arguments, callbacks):
                    return original(*bound.args, **bound.kwargs)
            finally:
                trained.fitting -= 1
                self.tracer.left_fit()

        return fit

    def _wrap_apply(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def apply(optimizer: Any, grads: Any, trainable_variables: Any = None) -> Any:
            self._check_before_training()
            # An iterator, such as `zip` gives, can be read only once.
            trainable_variables = trainable_variables and list(trainable_variables)
            self._stepping(optimizer)
            step = self.tracer.before_step(optimizer, grads, trainable_variables)
            with self._inventory.stepping():
                result = original(optimizer, grads, trainable_variables)
            self.stepped(optimizer)
            self.tracer.after_step(optimizer, step)
            return result

        return apply

    def _wrap_clear_session(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def clear_session(*args: Any, **kwargs: Any) -> Any:
            for index, trained in enumerate(self.trained):
                # A callback may call this in the middle of a `fit`.
                if not trained.fitting:
                    self.settling.settle(index)
            self.settling.settle_others(all_alive=False)
            self._inventory.release()
            self._optimizers.clear()
            return original(*args, **kwargs)

        return clear_session

    def _check_before_training(self) -> None:
        # Taken out first, so that it runs once even where it raises.
        check, self._before_training = self._before_training, None
        if check is not None:
            try:
                check()
            except SamebitsError as error:
                self.error = error  # the script may swallow it
                raise
        self.check()

    def digested(self) -> Mapping[int, tuple[Any, Digest]]:
        """Values and digests of the variables in the last epoch's ledger line, by id. They are handed out once."""
        found, self._digested = self._digested, {}
        return found

    def observations(self) -> dict[str, Any]:
        """What was observed so far, for a checkpoint."""
        fits = [{"model": fit.model, "epochs": fit.epochs, "history": deepcopy(fit.history)} for fit in self.fits]
        return {"fits": fits, "loops": self.tracer.counts(), "trained": [trained.how for trained in self.trained]}

    def restore_observations(self, saved: Mapping[str, Any]) -> None:
        """Continue from what a checkpoint holds."""
        fields = Fields(saved, "state.told")
        for number, item in enumerate(fields.objects("fits")):
            self.fits[number : number + 1] = [FitHistory.resumed(FitResult.from_fields(item))]
        self.tracer.count_from(fields.mapping("loops", int))
        for trained, how in zip(self.trained, fields.texts("trained"), strict=False):
            trained.how = how

    def first_steps(self) -> Sequence[Any]:
        """The optimizers that made steps, in the order of their first steps."""
        return self._optimizers

    def stepped(self, optimizer: Any) -> None:
        """Record an optimizer's step. The first one shows which models it trains."""
        if not any(optimizer is known for known in self._optimizers):
            self._optimizers.append(optimizer)
            self._find_trained(optimizer)

    @contextmanager
    def work(self) -> Iterator[None]:
        """Samebits' work between the script's steps: counts its seconds, and keeps the error that ends the run."""
        # A graph may call from several threads.
        with self._working:
            self.check()
            started = time.perf_counter()
            try:
                yield
            except (SamebitsError, TraceEnded) as error:
                self.error = error
                raise
            finally:
                self.seconds += time.perf_counter() - started

    def _callback(self, model: Any) -> Any:
        """A callback for one call of `fit`."""
        import keras

        index = self._register(model, "fit")
        fit = FitHistory(model=index)
        self.fits.append(fit)
        number = len(self.fits) - 1

        class ObserverCallback(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
            def on_epoch_begin(callback, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002, N805
                if self._shuffle is not None:
                    self._shuffle.start_epoch(number, epoch)

            def on_epoch_end(callback, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: N805
                with self.work():
                    self._append_epoch(number, epoch, logs or {})
                    self._inspect()
                self._after_epoch()

        return ObserverCallback()

    def _append_epoch(self, number: int, epoch: int, logs: dict[str, Any]) -> None:
        self._digested = {}
        fit = self.fits[number]
        trained = self.trained[fit.model]
        metrics = {name: _exact_metric(value) for name, value in sorted(logs.items())}
        for name, value in metrics.items():
            fit.history.setdefault(name, []).append(value)
        fit.epochs += 1
        # One digest for each group keeps the line short; the result lists every tensor.
        groups = model_variables(trained.target)
        described = {}
        for name, variables in groups.items():
            named = named_variables(variables)
            described[name] = describe_tensor(named)
            # The checkpoint of this epoch uses the same digests, and so hashes each tensor only once.
            if self.keeps_digested:
                for variable, item, about in zip(variables, named, described[name], strict=True):
                    self._digested[id(variable)] = item.array, Digest.parse(about["digest"])
        line = {"event": "epoch", "fit": number, "epoch": epoch, "model": trained.name}
        digests = {name: group_digest(about) for name, about in described.items()}
        self._ledger.append({**line, "metrics": metrics, "tensors": digests})
        self.compare(self._ledger.lines, line_place(line), groups, described)

    def _compare_settled(self, name: str, groups: VariableGroups, described: DescribedGroups) -> None:
        # The line with its digest is written when the script has ended.
        self.compare(self._ledger.lines + 1, f"the end of {name}", groups, described)

    def _register(self, model: Any, how: str) -> int:
        for index, trained in enumerate(self.trained):
            if trained.target is model:
                return index
        self.trained.append(TrainedModel(name=model.name, how=how, target=model))
        return len(self.trained) - 1

    def _find_trained(self, optimizer: Any) -> None:
        """Find the models whose variables an optimizer trains, at its first step."""
        if any(trained.fitting and trained.target.optimizer is optimizer for trained in self.trained):
            return  # this `fit` is registered already
        variables = trained_by(optimizer)
        # A nested model trains as a part of the outermost one, which is what is recorded.
        owners = [
            model for model in self._inventory.models() if getattr(model, "built", False) and owns(model, variables)
        ]
        for model in outermost(owners):
            trained = self.trained[self._register(model, "loop")]
            if getattr(model, "optimizer", None) is not optimizer:
                trained.optimizers.append(optimizer)
        # Bare variables, without a model, are recorded under their optimizer.
        if not owners:
            self.trained.append(TrainedModel(name=optimizer.name, how="variables", target=None, optimizers=[optimizer]))
            return
        owned = {id(variable) for model in owners for variable in model.variables}
        if bare := [variable for variable in variables if id(variable) not in owned]:
            self.trained.append(TrainedModel(name=optimizer.name, how="variables", target=None, bare=bare))


def _exact_metric(value: Any) -> str:
    """A metric as an exact float, or as text where it is no number."""
    try:
        return exact_float(float(value))
    except (TypeError, ValueError):
        return str(value)
