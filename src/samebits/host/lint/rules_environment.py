"""Rules on what a training stands in: settings, the clock, the network, other libraries."""

import ast
from collections.abc import Iterator

from samebits.host.lint.rules_randomness import CLOCK, changing
from samebits.host.lint.source_module import FUNCTIONS, Match, SourceModule, argument, constant, spreads

_NETWORK = frozenset(
    {
        "urllib.request.urlopen", "urllib.request.urlretrieve", "requests.get", "requests.post", "requests.request",
        "keras.utils.get_file", "socket.create_connection", "httpx.get", "tensorflow_datasets.load",
    }
)  # fmt: skip
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
_VARIABLES = ("PYTHONHASHSEED", "TF_", "OMP_", "MKL_", "CUBLAS_", "CUDA_", "XLA_", "NVIDIA_")
_BEFORE_USE = ("tensorflow.config.threading.set_", "tensorflow.config.experimental.enable_op_determinism")
_NO_USE = ("tensorflow.config.", "tensorflow.random.set_", "keras.utils.set_random_seed", "keras.config.")


def setting_too_late(module: SourceModule) -> Iterator[Match]:
    """A setting that is read before it is made: by the interpreter, or by TensorFlow as it is imported or used."""
    imported = _first(node for node in module.nodes if _imports_tensorflow(node))
    for node in (node for node in module.nodes if isinstance(node, ast.Assign)):
        name = _variable(module, node)
        if name.startswith(_VARIABLES) and (name == "PYTHONHASHSEED" or node.lineno > imported):
            yield node, f"os.environ[{name!r}]"
    calls = [(call, called) for call, called in module.calls() if called.startswith(("tensorflow.", "keras."))]
    used = _first(
        call for call, called in calls if not called.startswith(_NO_USE) and not module.enclosing(call, FUNCTIONS)
    )
    for call, called in calls:
        if called.startswith(_BEFORE_USE) and call.lineno > used:
            yield call, f"{called}()"


def _variable(module: SourceModule, node: ast.Assign) -> str:
    """The name of the environment variable that a statement sets."""
    target = node.targets[0]
    if not isinstance(target, ast.Subscript) or module.dotted(target.value) != "os.environ":
        return ""
    name = constant(target.slice)
    return name if isinstance(name, str) else ""


def _first(nodes: Iterator[ast.AST]) -> float:
    """The first line of some; infinite where there are none."""
    return min((node.lineno for node in nodes if isinstance(node, (ast.stmt, ast.expr))), default=float("inf"))


def _imports_tensorflow(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
    else:
        names = [item.name for item in node.names] if isinstance(node, ast.Import) else []
    return any(name.partition(".")[0] in ("tensorflow", "keras") for name in names)


def sklearn_without_state(module: SourceModule) -> Iterator[Match]:
    """A split or an estimator of scikit-learn's that draws, and was given no state to draw from."""
    for call, called in module.calls():
        owner, _, name = called.rpartition(".")
        if not owner.startswith("sklearn.") or spreads(call):
            continue
        shuffles = constant(argument(call, -1, "shuffle"))
        draws = (name in _SPLITS | _ESTIMATORS and shuffles is not False) or (name in _FOLDS and shuffles is True)
        state = argument(call, -1, "random_state")
        if draws and (state is None or constant(state) is None):
            yield call, f"{name}()"


def control_by_the_clock(module: SourceModule) -> Iterator[Match]:
    """What is done depends on how long it took, or on when."""
    for node in module.nodes:
        if isinstance(node, (ast.If, ast.While, ast.IfExp)) and (found := changing(module, node.test, CLOCK, 2)):
            yield node.test, f"a condition of {found}"


def network(module: SourceModule) -> Iterator[Match]:
    """Data from an address, where it may be another one tomorrow."""
    for call, called in module.calls():
        if called in _NETWORK or (called.startswith("keras.datasets.") and called.endswith(".load_data")):
            yield call, f"{called}()"
