"""Small trainings that hold state in one place each: every kind of value, held everywhere Keras code holds one.

The value is part of what is trained: it scales a loss or an input, or is added to a metric. Lost state changes bits.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from itertools import combinations, product
from textwrap import indent

HOLDERS = (
    *("Model", "Layer", "Metric", "Loss", "Optimizer", "Callback", "Schedule", "PyDataset"),
    *("global", "closure", "class"),
)
NAMES = {"private": "_held", "public": "held"}
CONTAINERS = {
    "attribute": ("{}", ""),
    "list": ("[{}]", "[0]"),
    "dict": ("{{'key': {}}}", "['key']"),
    "object": ("Plain({})", ".item"),
    "dataclass": ("Data({})", ".item"),
    "slots": ("Slots({})", ".item"),
}
"""How a container of the value is made, and how the value in it is reached."""
KINDS = {
    "int": ("1", "{0} += 1", "{0}"),
    "float": ("0.5", "{0} *= 1.5", "{0}"),
    "str": ("'a'", "{0} += 'a'", "len({0})"),
    "small_array": ("np.zeros(4)", "{0}[1] += 1", "float({0}[1])"),
    "large_array": ("np.zeros(5_000)", "{0}[2_500] += 1", "float({0}[2_500])"),
    "huge_array": ("np.zeros(17 << 20, np.uint8)", "{0}[9 << 20] += 1", "float({0}[9 << 20])"),
    "numpy_generator": ("np.random.default_rng(7)", "{0}.random(3)", "{0}.random()"),
    "python_generator": ("random.Random(7)", "{0}.random()", "{0}.random()"),
    "tf_variable": ("tf.Variable(1.0)", "{0}.assign_add(1.0)", "tf.identity({0})"),
    "keras_variable": ("keras.Variable(1.0, trainable=False)", "{0}.assign_add(1.0)", "tf.identity({0})"),
    "optimizer": ("keras.optimizers.SGD(0.1, momentum=0.9)", "{0}.apply([ONE], [SIDE])", "tf.identity(SIDE)"),
    "average": ("average()", "SIDE.assign_add(1.0); {0}.apply([SIDE.value])", "tf.identity({0}.average(SIDE.value))"),
    "table": (
        "tf.lookup.experimental.MutableHashTable(tf.string, tf.float32, 1.0)",
        "{0}.insert('key', {0}.lookup('key') + 1.0)",
        "tf.ensure_shape({0}.lookup('key'), ())",
    ),
    "module": ("Module()", "{0}.variable.assign_add(1.0)", "tf.identity({0}.variable)"),
    "iterator": ("itertools.count(1)", "next({0})", "next({0})"),
    "file": ("open(os.environ['SAMEBITS_OUTPUT'] + '/held.txt', 'w')", "{0}.write('a')", "{0}.tell()"),
}
"""How a value is made, how it changes, and the number that the training uses."""
PLACES = ("train_step", "call", "callback", "between")
"""Where the value changes: in a custom `train_step`, in the holder's own method, in a callback, between two fits."""
MODES = ("eager", "graph")


@dataclass(frozen=True, order=True)
class Case:
    """One training."""

    holder: str
    name: str
    container: str
    kind: str
    place: str
    mode: str

    def __str__(self) -> str:
        return "-".join(astuple(self))

    @property
    def phase(self) -> int:
        """The call of `fit` in which it is killed, counted from 0, after an epoch of it."""
        return int(self.place == "between")


def every_case() -> list[Case]:
    """Each holder with each kind, place and mode; container and name vary over them."""
    containers, names = list(CONTAINERS), list(NAMES)
    found = []
    for number, (holder, kind, place, mode) in enumerate(product(HOLDERS, KINDS, PLACES, MODES)):
        # 6 and 2 divide the 128 cases of a holder and the 8 of a kind: shift them by both.
        shift = number + number // 8 + number // 128
        found.append(Case(holder, names[shift // 6 % 2], containers[shift % 6], kind, place, mode))
    return found


def spread(cases: Sequence[Case], *, apart: Sequence[tuple[str, str]] = ()) -> list[Case]:
    """Cases that together have every pair of values that any two parts of a case take, and each value about as often.

    Two parts named in `apart` need not meet in each pair of their values: fewer cases.
    """
    wanted = {case: _pairs(case, apart) for case in cases}
    left = frozenset().union(*wanted.values())
    chosen: list[Case] = []
    often: Counter[str | tuple[str, str]] = Counter()
    while left:
        best = max(cases, key=lambda case: (len(left & wanted[case]), *(-often[key] for key in _evenly(case))))
        chosen.append(best)
        often.update(_evenly(best))
        left -= wanted[best]
    return chosen


def _evenly(case: Case) -> tuple[str | tuple[str, str], ...]:
    return case.kind, case.holder, (case.holder, case.kind)


def _pairs(case: Case, apart: Sequence[tuple[str, str]]) -> frozenset[tuple[tuple[str, str], ...]]:
    pairs = combinations(asdict(case).items(), 2)
    return frozenset(pair for pair in pairs if (pair[0][0], pair[1][0]) not in apart)


PREFACE = """
import dataclasses, itertools, os, random
import keras, numpy as np, tensorflow as tf

class Plain:
    def __init__(self, item): self.item = item

@dataclasses.dataclass
class Data:
    item: object

class Slots:
    __slots__ = ("item",)
    def __init__(self, item): self.item = item

class Module(tf.Module):
    def __init__(self):
        super().__init__()
        self.variable = tf.Variable(1.0)

ONE, SIDE = tf.constant(1.0), keras.Variable(1.0, trainable=False)

def average():
    made = tf.train.ExponentialMovingAverage(0.5)
    made.apply([SIDE.value])
    return made

def scaled(number): return 1.0 + 0.01 * tf.cast(number, "float32")

rng = np.random.default_rng(1)
x, y = rng.normal(size=(16, 3)).astype("float32"), rng.normal(size=(16, 1)).astype("float32")
"""

CLASSES = """
class Tick(keras.layers.Layer):{Layer_class}
    def __init__(self):
        super().__init__(){Layer_init}
    def call(self, inputs):
        {Layer_tick}
        return inputs * scaled(used)

class Gauge(keras.metrics.Metric):{Metric_class}
    def __init__(self):
        super().__init__(name="gauge")
        self.total = self.add_variable((), "zeros", name="total"){Metric_init}
    def update_state(self, y_true, y_pred, sample_weight=None):
        {Metric_tick}
        self.total.assign_add(scaled(used))
    def result(self): return self.total + 0.0

class Wrong(keras.losses.Loss):{Loss_class}
    def __init__(self):
        super().__init__(){Loss_init}
    def call(self, y_true, y_pred):
        {Loss_tick}
        return tf.reduce_mean((y_true - y_pred) ** 2, axis=-1) * scaled(used)

class Descent(keras.optimizers.SGD):{Optimizer_class}
    def __init__(self, rate):
        super().__init__(rate, momentum=0.9){Optimizer_init}
    def update_step(self, gradient, variable, rate):
        {Optimizer_tick}
        super().update_step(gradient * scaled(used), variable, rate)

class Slower(keras.optimizers.schedules.LearningRateSchedule):{Schedule_class}
    def __init__(self):
        super().__init__(){Schedule_init}
    def __call__(self, step):
        {Schedule_tick}
        return 0.01 * scaled(used)

class Batches(keras.utils.PyDataset):{PyDataset_class}
    def __init__(self):
        super().__init__(){PyDataset_init}
    def __len__(self): return 2
    def __getitem__(self, index):
        {PyDataset_tick}
        return x[index * 8:index * 8 + 8] * np.float32(scaled(used)), y[index * 8:index * 8 + 8]

class Net(keras.Model):{Model_class}
    def __init__(self):
        super().__init__()
        self.tick, self.dense = Tick(), keras.layers.Dense(1){Model_init}
    def call(self, inputs):
        {Model_tick}
        return self.dense(self.tick(inputs)) * scaled(used)
    def train_step(self, batch):
        inputs, targets = batch
        with tf.GradientTape() as tape:
            outputs = self(inputs, training=True)
            {step_tick}
            loss = self.compute_loss(inputs, targets, outputs) * scaled(used)
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return self.compute_metrics(inputs, targets, outputs) | {{"loss": loss}}

class Hook(keras.callbacks.Callback):{Callback_class}
    def __init__(self):
        super().__init__(){Callback_init}
    def on_train_batch_end(self, batch, logs=None):
        {Callback_tick}
        self.model.dense.bias.assign_add([0.01 * scaled(used)])
"""

MAKE = """
model, data, hook, loss, gauge, schedule = Net(), Batches(), Hook(), Wrong(), Gauge(), Slower()
optimizer = Descent(schedule)
{links}
model(x[:1])
model.compile(optimizer, loss, metrics=[gauge], run_eagerly={eager})
"""

FITS = {
    "between": "fit(1)\n{change}\nfit(2)\n",
    "usual": "fit(3)\n",
}
FIT = """
def fit(epochs): model.fit(data, epochs=epochs, shuffle=False, verbose=0, callbacks=[hook])
"""

# The class whose own method uses what a global, a closure or a class holds, by place.
_OWNERS = {"train_step": "Model", "call": "Layer", "callback": "Callback", "between": "Layer"}
_CLASSES = {"Model": "Net", "Layer": "Tick", "Callback": "Hook"}
_FROM_MODEL = {
    "Model": "self",
    "Layer": "self.tick",
    "Metric": "self.gauge",
    "Loss": "self.loss",
    "Optimizer": "self.optimizer",
    "Callback": "self.hook",
    "Schedule": "self.schedule",
    "PyDataset": "self.data",
}
"""How the holder is reached from the model."""
_FROM_SCRIPT = {
    "Model": "model",
    "Layer": "model.tick",
    "Metric": "gauge",
    "Loss": "loss",
    "Optimizer": "optimizer",
    "Callback": "hook",
    "Schedule": "schedule",
    "PyDataset": "data",
}
_LINKS = {
    "Metric": "model.gauge = gauge",
    "Callback": "model.hook = hook",
    "Schedule": "model.schedule = schedule",
    "PyDataset": "model.data = data",
}
"""Attributes of the model by which its methods reach a holder."""


def script_of(case: Case, *, changing: bool = True) -> str:
    """The training of a case; one whose value never changes shows that the value matters."""
    return _Script(case, changing=changing).text()


class _Script:
    def __init__(self, case: Case, *, changing: bool) -> None:
        self.case, self.changing = case, changing
        self.made = CONTAINERS[case.container][0].format(KINDS[case.kind][0])
        self.owner = case.holder if case.holder in _FROM_MODEL else _OWNERS[case.place]
        self.name = NAMES[case.name]

    def text(self) -> str:
        case, slots = self.case, dict(self._slots())
        body = CLASSES.format_map({**dict.fromkeys(_SLOTS, ""), **dict.fromkeys(_TICKS, "used = 1"), **slots})
        links = _LINKS.get(case.holder, "") if case.place in ("train_step", "callback") else ""
        made = MAKE.format(links=links, eager=case.mode == "eager")
        change = self._change(self._from_script())
        if case.holder == "global":
            body = f"{self.name} = {self.made}\n{body}"
        if case.holder == "closure":
            names = "Tick, Gauge, Wrong, Descent, Slower, Batches, Net, Hook, between"
            between = f"def between():\n    nonlocal {self.name}\n    {change}\n"
            inner = f"{self.name} = {self.made}\n{body}{between}return {names}\n"
            body, change = f"def build():\n{indent(inner, '    ')}\n{names} = build()\n", "between()"
        fits = FITS.get(case.place, FITS["usual"]).format(change=change)
        return f"{PREFACE}{body}{made}{FIT}{fits}"

    def _slots(self) -> Iterator[tuple[str, str]]:
        case = self.case
        if case.holder == "class":
            yield f"{self.owner}_class", f"\n    {self.name} = {self.made}"
        elif case.holder in _FROM_MODEL:
            yield f"{case.holder}_init", f"\n        self.{self.name} = {self.made}"
        place = {"train_step": "step", "callback": "Callback"}.get(case.place, self.owner)
        yield f"{place}_tick", self._tick()

    def _tick(self) -> str:
        """Change and use the value in a method."""
        case, lines = self.case, []
        if case.holder in ("global", "closure"):
            lines.append(f"{'global' if case.holder == 'global' else 'nonlocal'} {self.name}")
        if case.place != "between":
            lines.append(self._change(self._from_method()))
        lines.append("used = " + KINDS[case.kind][2].format(self._value(self._from_method())))
        depth = 12 if case.place == "train_step" else 8
        return ("\n" + " " * depth).join(lines)

    def _change(self, holder: str) -> str:
        return KINDS[self.case.kind][1].format(self._value(holder)) if self.changing else "pass"

    def _value(self, holder: str) -> str:
        reached = f"{holder}.{self.name}" if holder else self.name
        return reached + CONTAINERS[self.case.container][1]

    def _from_method(self) -> str:
        case = self.case
        if case.holder in ("global", "closure"):
            return ""
        if case.holder == "class":
            return _CLASSES[self.owner]
        if case.place == "train_step":
            return _FROM_MODEL[case.holder]
        if case.place == "callback" and case.holder != "Callback":
            return _FROM_MODEL[case.holder].replace("self", "self.model", 1)
        return "self"

    def _from_script(self) -> str:
        if self.case.holder in ("global", "closure"):
            return ""
        return _CLASSES[self.owner] if self.case.holder == "class" else _FROM_SCRIPT[self.case.holder]


_SLOTS = [f"{name}_{part}" for name in _FROM_MODEL for part in ("class", "init")]
_TICKS = [f"{name}_tick" for name in (*_FROM_MODEL, "step")]
