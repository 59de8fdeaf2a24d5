"""Rules on data: tf.data pipelines, folder loaders and PyDataset workers."""

import ast
from collections.abc import Iterator

from samebits.host.lint.rules_randomness import shared_draw, uses_global_generator
from samebits.host.lint.source_module import Match, SourceModule, argument, constant, has_unpacking

_GLOBAL_SEEDING = ("tensorflow.random.set_seed", "keras.utils.set_random_seed")
_NOT_DRAWS_OF_TF = frozenset({"set_seed", "Generator", "get_global_generator", "split", "fold_in"})
_UNORDERED = frozenset({"map", "interleave", "ragged_batch"})


def unordered_pipeline(module: SourceModule) -> Iterator[Match]:
    """SB301: a tf.data pipeline that may return elements out of order."""
    for call, called in module.calls():
        name = called.rpartition(".")[2]
        if name in _UNORDERED and constant(argument(call, -1, "deterministic")) is False:
            yield call, "deterministic=False"
    for name in ("deterministic", "experimental_deterministic"):
        for value in module.values.get(f".{name}", []):
            if constant(value) is False:
                yield value, f"{name} = False"


def unseeded_shuffle(module: SourceModule) -> Iterator[Match]:
    """SB302: a pipeline's shuffle without a seed, in a file that sets no global seed."""
    # With a global seed, the operation seed follows from it and the graph.
    if any(called in _GLOBAL_SEEDING and call.args for call, called in module.calls()):
        return
    for call, _ in module.calls():
        method = call.func
        of_pipeline = isinstance(method, ast.Attribute) and method.attr == "shuffle" and module.is_dataset(method.value)
        if of_pipeline and argument(call, 1, "seed") is None and not has_unpacking(call):
            yield call, "shuffle() of a pipeline"


def stateful_draw_in_parallel_map(module: SourceModule) -> Iterator[Match]:
    """SB303: a function that a pipeline calls in parallel, and that draws from a shared stateful generator."""
    for call, called in module.calls():
        if called.rpartition(".")[2] not in ("map", "interleave") or not call.args:
            continue
        function = module.function(call.args[0])
        # Without num_parallel_calls the calls run one after the other.
        if function is None or argument(call, -1, "num_parallel_calls") is None:
            continue
        drawn = [inner for _, inner in module.calls(function) if _stateful_draw(inner)]
        if drawn:
            yield call, f"{drawn[0]}() in a parallel map"


def _stateful_draw(called: str) -> bool:
    owner, _, name = called.rpartition(".")
    drawn = owner == "tensorflow.random" or (owner == "tensorflow.image" and name.startswith("random_"))
    return (drawn and name not in _NOT_DRAWS_OF_TF and "stateless" not in name) or uses_global_generator(called)


def unseeded_loader(module: SourceModule) -> Iterator[Match]:
    """SB304: a folder loader that shuffles (the default) without a seed."""
    for call, called in module.calls():
        owner, _, name = called.rpartition(".")
        of_keras = owner.startswith("keras.") and name.endswith("_dataset_from_directory")
        if (of_keras or (owner.startswith("tensorflow.data") and name == "list_files")) and not has_unpacking(call):
            # An unknown value of `shuffle` counts as shuffling, which is the default.
            shuffles = constant(argument(call, -1 if of_keras else 1, "shuffle")) is not False
            if shuffles and argument(call, -1 if of_keras else 2, "seed") is None:
                yield call, f"{name}()"


def shared_generator_in_dataset(module: SourceModule) -> Iterator[Match]:
    """SB305: a PyDataset with several workers that draw from one generator."""
    # The number of workers is given where the class is instantiated, not where it is defined.
    counts = [constant(argument(call, -1, "workers")) for call, _ in module.calls()]
    if not any(isinstance(count, int) and count > 1 for count in counts):
        return
    for kind in (node for node in module.nodes if isinstance(node, ast.ClassDef)):
        bases = [module.dotted(base) or "" for base in kind.bases]
        methods = [item for item in kind.body if isinstance(item, ast.FunctionDef) and item.name == "__getitem__"]
        of_data = any(base.endswith((".PyDataset", ".Sequence")) for base in bases)
        drawn = shared_draw(module, methods[0]) if of_data and methods else ""
        if drawn:
            yield methods[0], f"{kind.name} with several workers calls {drawn}"
