"""Rules on sources of random numbers: seeds, shared generators and the operating system."""

import ast
from collections.abc import Iterator

from samebits.host.lint.source_module import Function, Match, SourceModule, argument, constant, has_unpacking

_BIT_GENERATORS = frozenset({"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"})
_NOT_DRAWS = frozenset(
    {"default_rng", "Generator", "RandomState", "SeedSequence", "Random", "get_state", "getstate", *_BIT_GENERATORS}
)
_GENERATORS = ("numpy.random.default_rng", "numpy.random.RandomState", "numpy.random.Generator", "random.Random")
_ENTROPY_CALLS = ("os.urandom", "os.getrandom", "secrets.", "uuid.uuid1", "uuid.uuid4", "random.SystemRandom")
CLOCK_CALLS = ("time.time", "time.monotonic", "time.perf_counter", "datetime.datetime.now", "datetime.datetime.utcnow")
_TODAY_CALLS = ("datetime.datetime.today", "datetime.date.today")
_VARYING_CALLS = (*_ENTROPY_CALLS, *CLOCK_CALLS, *_TODAY_CALLS, "os.getpid", "uuid.getnode", "id")
_SEEDING_CALLS = ("seed", "set_seed", "set_random_seed", "default_rng", "RandomState", "Random", "SeedSequence")
_WORKER_CLASSES = ("Thread", "Process", "Timer")
_WORKER_METHODS = frozenset(
    {"submit", "map", "imap", "imap_unordered", "apply_async", "starmap", "apply", "map_async", "starmap_async"}
)


def unseeded_numpy(module: SourceModule) -> Iterator[Match]:
    """SB101: a NumPy generator that takes its seed from the operating system."""
    for call, called in module.calls():
        owner, _, name = called.rpartition(".")
        if owner == "numpy.random" and name in {"default_rng", "RandomState", "SeedSequence", *_BIT_GENERATORS}:
            # The parameter has another name in each class.
            seed = argument(call, 0, "seed", "entropy", "key")
            if not has_unpacking(call) and (seed is None or constant(seed) is None):
                yield call, f"{name}()"


def unseeded_python(module: SourceModule) -> Iterator[Match]:
    """SB102: an unseeded generator of Python or TensorFlow, or a seeding call without a seed."""
    for call, called in module.calls():
        if called in ("random.Random", "random.seed", "numpy.random.seed") and not has_unpacking(call):
            seed = argument(call, 0, "a", "x", "seed")
            if seed is None or constant(seed) is None:
                yield call, f"{called}()"
        elif called == "tensorflow.random.Generator.from_non_deterministic_state":
            yield call, "from_non_deterministic_state()"


def shared_generator_in_workers(module: SourceModule) -> Iterator[Match]:
    """SB103: a function run by threads or processes that draws from a generator outside of it."""
    for call, called in module.calls():
        sent = _worker_function(module, call, called.rpartition(".")[2])
        function = None if sent is None else module.function(sent)
        drawn = "" if function is None else shared_draw(module, function)
        if drawn:
            yield call, drawn


def _worker_function(module: SourceModule, call: ast.Call, name: str) -> ast.expr | None:
    """The function that a call passes to a worker; None if it passes none."""
    if name in _WORKER_CLASSES:
        return argument(call, -1, "target", "function")
    if name not in _WORKER_METHODS or not isinstance(call.func, ast.Attribute) or module.is_dataset(call.func.value):
        return None
    return argument(call, 0, "func", "fn")


def shared_draw(module: SourceModule, function: Function) -> str:
    """The first draw in a function from a global generator, or one created outside of it; empty if there is none."""
    # A generator that the function creates is not shared.
    own = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for call, called in module.calls(function):
        if uses_global_generator(called):
            return f"{called}()"
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if owner is None or (isinstance(owner, ast.Name) and owner.id in own):
            continue
        made = (value for value in module.assigned(owner) if isinstance(value, ast.Call))
        if any(module.called(value) in _GENERATORS for value in made):
            return f"{ast.unparse(call.func)}()"
    return ""


def uses_global_generator(called: str) -> bool:
    """Whether a function draws from the global generator of `random` or `numpy.random`."""
    owner, _, name = called.rpartition(".")
    return owner in ("random", "numpy.random") and name not in _NOT_DRAWS


def varying_seed(module: SourceModule) -> Iterator[Match]:
    """SB104: a seed that differs in every run: from the clock, the process or the operating system."""
    for call, called in module.calls():
        seeds = [item.value for item in call.keywords if item.arg in ("seed", "random_state")]
        if called.rpartition(".")[2] in _SEEDING_CALLS:
            seeds += call.args[:1]
        found = [varying_source(module, seed, _VARYING_CALLS) for seed in seeds]
        if any(found):
            yield call, f"a seed of {next(filter(None, found))}"


def varying_source(module: SourceModule, node: ast.expr, names: tuple[str, ...], depth: int = 3) -> str:
    """The first of the calls `names` that a value comes from, also through up to `depth` names; empty if none."""
    for call, called in module.calls(node):
        if any(called == name or (name.endswith(".") and called.startswith(name)) for name in names):
            return f"{ast.unparse(call.func)}()"
    # `depth` bounds the search, because assignments may be circular.
    inner = [item for item in ast.walk(node) if isinstance(item, ast.Name) and depth]
    found = (varying_source(module, value, names, depth - 1) for item in inner for value in module.assigned(item))
    return next(filter(None, found), "")


def system_entropy(module: SourceModule) -> Iterator[Match]:
    """SB105: entropy of the operating system, used directly."""
    # A seed from such a call is SB104.
    seeds = {inner for call, _ in varying_seed(module) for inner in ast.walk(call)}
    for call, called in module.calls():
        if call not in seeds and called.startswith(_ENTROPY_CALLS):
            yield call, f"{called}()"
