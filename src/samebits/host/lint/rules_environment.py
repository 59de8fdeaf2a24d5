"""Rules on the environment of a training: settings, the clock, scikit-learn."""

import ast
from collections.abc import Iterator

from samebits.host.lint.rules_randomness import CLOCK_CALLS, varying_source
from samebits.host.lint.source_module import FUNCTIONS, Match, SourceModule, argument, constant, has_unpacking

_SPLITS = frozenset({"train_test_split", "shuffle", "resample", "ShuffleSplit", "StratifiedShuffleSplit",
                     "GroupShuffleSplit", "RepeatedKFold", "RepeatedStratifiedKFold"})  # fmt: skip
_FOLDS = frozenset({"KFold", "StratifiedKFold", "StratifiedGroupKFold"})
_ESTIMATORS = frozenset(
    {
        "RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor", "KMeans",
        "MiniBatchKMeans", "MLPClassifier", "MLPRegressor", "SGDClassifier", "SGDRegressor", "TSNE", "IsolationForest",
        "GradientBoostingClassifier", "GradientBoostingRegressor", "DecisionTreeClassifier", "DecisionTreeRegressor",
        "BaggingClassifier", "BaggingRegressor", "GaussianMixture", "RandomizedSearchCV", "Perceptron",
    }
)  # fmt: skip
_VARIABLE_PREFIXES = ("PYTHONHASHSEED", "TF_", "OMP_", "MKL_", "CUBLAS_", "CUDA_", "XLA_", "NVIDIA_")
_TOO_LATE_AFTER_USE = ("tensorflow.config.threading.set_", "tensorflow.config.experimental.enable_op_determinism")
_CONFIGURATION_CALLS = ("tensorflow.config.", "tensorflow.random.set_", "keras.utils.set_random_seed", "keras.config.")


def late_setting(module: SourceModule) -> Iterator[Match]:
    """SB401: a setting made after the interpreter or TensorFlow has read it."""
    yield from _late_variables(module)
    yield from _late_calls(module)


def _late_variables(module: SourceModule) -> Iterator[Match]:
    # TensorFlow reads variables on import; the interpreter reads its hash seed before the first line.
    imported = _first_line(node for node in module.nodes if _imports_tensorflow(node))
    for node in (node for node in module.nodes if isinstance(node, ast.Assign)):
        name = _variable(module, node)
        # The interpreter reads PYTHONHASHSEED before the script, so setting it is always too late.
        if name.startswith(_VARIABLE_PREFIXES) and (name == "PYTHONHASHSEED" or node.lineno > imported):
            yield node, f"os.environ[{name!r}]"


def _late_calls(module: SourceModule) -> Iterator[Match]:
    """Calls that TensorFlow ignores, or refuses, once it has computed something."""
    calls = [(call, called) for call, called in module.calls() if called.startswith(("tensorflow.", "keras."))]
    # Calls inside functions run at an unknown time, so they do not count as first use.
    used = _first_line(
        call
        for call, called in calls
        if not called.startswith(_CONFIGURATION_CALLS) and not module.enclosing(call, FUNCTIONS)
    )
    for call, called in calls:
        if called.startswith(_TOO_LATE_AFTER_USE) and call.lineno > used:
            yield call, f"{called}()"


def _variable(module: SourceModule, node: ast.Assign) -> str:
    """The name of the environment variable that a statement sets; empty if it sets none."""
    target = node.targets[0]
    if not isinstance(target, ast.Subscript) or module.dotted(target.value) != "os.environ":
        return ""
    name = constant(target.slice)
    return name if isinstance(name, str) else ""


def _first_line(nodes: Iterator[ast.AST]) -> float:
    """The first line number of the nodes; infinite if there are none."""
    return min((node.lineno for node in nodes if isinstance(node, (ast.stmt, ast.expr))), default=float("inf"))


def _imports_tensorflow(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
    else:
        names = [item.name for item in node.names] if isinstance(node, ast.Import) else []
    return any(name.partition(".")[0] in ("tensorflow", "keras") for name in names)


def unseeded_sklearn(module: SourceModule) -> Iterator[Match]:
    """SB501: a split or an estimator of scikit-learn that draws without a random_state."""
    for call, called in module.calls():
        owner, _, name = called.rpartition(".")
        if not owner.startswith("sklearn.") or has_unpacking(call):
            continue
        shuffles = constant(argument(call, -1, "shuffle"))
        # Splits shuffle by default, folds only on request.
        draws = (name in _SPLITS | _ESTIMATORS and shuffles is not False) or (name in _FOLDS and shuffles is True)
        state = argument(call, -1, "random_state")
        if draws and (state is None or constant(state) is None):
            yield call, f"{name}()"


def clock_condition(module: SourceModule) -> Iterator[Match]:
    """SB601: a condition that depends on the clock."""
    for node in module.nodes:
        if not isinstance(node, (ast.If, ast.While, ast.IfExp)):
            continue
        if found := varying_source(module, node.test, CLOCK_CALLS, 2):
            yield node.test, f"a condition on {found}"
