"""Rules on data: pipelines, loaders of folders, and workers."""

import ast
from collections.abc import Iterator

from samebits.host.lint.rules_randomness import of_everybody, shared_draw
from samebits.host.lint.source_module import Match, SourceModule, argument, constant, spreads

_SEEDS_ALL = ("tensorflow.random.set_seed", "keras.utils.set_random_seed")
_SETTINGS = frozenset({"set_seed", "Generator", "get_global_generator", "split", "fold_in"})
_UNORDERED = frozenset({"map", "interleave", "ragged_batch"})


def pipeline_out_of_order(module: SourceModule) -> Iterator[Match]:
    """A tf.data pipeline that is told to give what is ready first."""
    for call, called in module.calls():
        name = called.rpartition(".")[2]
        if name in _UNORDERED and constant(argument(call, -1, "deterministic")) is False:
            yield call, "deterministic=False"
    for name in ("deterministic", "experimental_deterministic"):
        for value in module.values.get(f".{name}", []):
            if constant(value) is False:
                yield value, f"{name} = False"


def pipeline_without_seed(module: SourceModule) -> Iterator[Match]:
    """A pipeline's shuffle whose seed nobody gave, neither here nor for all."""
    if any(called in _SEEDS_ALL and call.args for call, called in module.calls()):
        return
    for call, _ in module.calls():
        method = call.func
        of_pipeline = isinstance(method, ast.Attribute) and method.attr == "shuffle" and module.is_dataset(method.value)
        if of_pipeline and argument(call, 1, "seed") is None and not spreads(call):
            yield call, "shuffle() of a pipeline"


def random_in_parallel_map(module: SourceModule) -> Iterator[Match]:
    """A function that a pipeline calls side by side, and that draws from a counter they share."""
    for call, called in module.calls():
        if called.rpartition(".")[2] not in ("map", "interleave") or not call.args:
            continue
        function = module.function(call.args[0])
        if function is None or argument(call, -1, "num_parallel_calls") is None:
            continue
        drawn = [inner for _, inner in module.calls(function) if _stateful_draw(inner)]
        if drawn:
            yield call, f"{drawn[0]}() in a parallel map"


def _stateful_draw(called: str) -> bool:
    owner, _, name = called.rpartition(".")
    drawn = owner == "tensorflow.random" or (owner == "tensorflow.image" and name.startswith("random_"))
    return (drawn and name not in _SETTINGS and "stateless" not in name) or of_everybody(called)


def loader_without_seed(module: SourceModule) -> Iterator[Match]:
    """Loaders of folders, which shuffle unless they are told not to."""
    for call, called in module.calls():
        owner, _, name = called.rpartition(".")
        of_keras = owner.startswith("keras.") and name.endswith("_dataset_from_directory")
        if (of_keras or (owner.startswith("tensorflow.data") and name == "list_files")) and not spreads(call):
            shuffles = constant(argument(call, -1 if of_keras else 1, "shuffle")) is not False
            if shuffles and argument(call, -1 if of_keras else 2, "seed") is None:
                yield call, f"{name}()"


def data_with_shared_generator(module: SourceModule) -> Iterator[Match]:
    """A PyDataset of several workers that draws from one generator."""
    counts = [constant(argument(call, -1, "workers")) for call, _ in module.calls()]
    if not any(isinstance(count, int) and count > 1 for count in counts):
        return
    for kind in (node for node in module.nodes if isinstance(node, ast.ClassDef)):
        bases = [module.dotted(base) or "" for base in kind.bases]
        methods = [item for item in kind.body if isinstance(item, ast.FunctionDef) and item.name == "__getitem__"]
        of_data = any(base.endswith((".PyDataset", ".Sequence")) for base in bases)
        drawn = shared_draw(module, methods[0]) if of_data and methods else ""
        if drawn:
            yield methods[0], f"{kind.name} of several workers draws by {drawn}"
