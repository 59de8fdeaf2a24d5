"""Rules on where random numbers come from: seeds, generators that are shared, and the operating system."""

import ast
from collections.abc import Iterator

from samebits.host.lint.source_module import Function, Match, SourceModule, argument, constant, spreads

_BITS = frozenset({"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"})
_MAKES = frozenset(
    {"default_rng", "Generator", "RandomState", "SeedSequence", "Random", "get_state", "getstate", *_BITS}
)
_GENERATORS = ("numpy.random.default_rng", "numpy.random.RandomState", "numpy.random.Generator", "random.Random")
_ENTROPY = ("os.urandom", "os.getrandom", "secrets.", "uuid.uuid1", "uuid.uuid4", "random.SystemRandom")
CLOCK = ("time.time", "time.monotonic", "time.perf_counter", "datetime.datetime.now", "datetime.datetime.utcnow")
_CHANGING = (*_ENTROPY, *CLOCK, "os.getpid", "datetime.datetime.today", "datetime.date.today", "uuid.getnode", "id")
_SEEDING = ("seed", "set_seed", "set_random_seed", "default_rng", "RandomState", "Random", "SeedSequence")
_WORKERS = ("Thread", "Process", "Timer")
_SENDS = frozenset(
    {"submit", "map", "imap", "imap_unordered", "apply_async", "starmap", "apply", "map_async", "starmap_async"}
)


def unseeded_numpy(module: SourceModule) -> Iterator[Match]:
    """A generator of NumPy's that takes its seed from the operating system."""
    for call, called in module.calls():
        owner, _, name = called.rpartition(".")
        if owner == "numpy.random" and name in {"default_rng", "RandomState", "SeedSequence", *_BITS}:
            seed = argument(call, 0, "seed", "entropy", "key")
            if not spreads(call) and (seed is None or constant(seed) is None):
                yield call, f"{name}()"


def unseeded_python(module: SourceModule) -> Iterator[Match]:
    """One of Python's or of TensorFlow's, or a seed that nobody gives."""
    for call, called in module.calls():
        if called in ("random.Random", "random.seed", "numpy.random.seed") and not spreads(call):
            seed = argument(call, 0, "a", "x", "seed")
            if seed is None or constant(seed) is None:
                yield call, f"{called}()"
        elif called == "tensorflow.random.Generator.from_non_deterministic_state":
            yield call, "from_non_deterministic_state()"


def workers_that_draw(module: SourceModule) -> Iterator[Match]:
    """A function that threads or processes run, and that draws from a generator outside of it."""
    for call, called in module.calls():
        sent = _sent(module, call, called.rpartition(".")[2])
        function = None if sent is None else module.function(sent)
        drawn = "" if function is None else shared_draw(module, function)
        if drawn:
            yield call, drawn


def _sent(module: SourceModule, call: ast.Call, name: str) -> ast.expr | None:
    """The function that a call hands over to a worker."""
    if name in _WORKERS:
        return argument(call, -1, "target", "function")
    if name not in _SENDS or not isinstance(call.func, ast.Attribute) or module.is_dataset(call.func.value):
        return None
    return argument(call, 0, "func", "fn")


def shared_draw(module: SourceModule, function: Function) -> str:
    """What of everybody's a function draws from: a module's generator, or one that was made outside of it."""
    own = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for call, called in module.calls(function):
        if of_everybody(called):
            return f"{called}()"
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if owner is None or (isinstance(owner, ast.Name) and owner.id in own):
            continue
        made = (value for value in module.assigned(owner) if isinstance(value, ast.Call))
        if any(module.called(value) in _GENERATORS for value in made):
            return f"{ast.unparse(call.func)}()"
    return ""


def of_everybody(called: str) -> bool:
    """Whether a function draws from the generator that Python's or NumPy's module holds."""
    owner, _, name = called.rpartition(".")
    return owner in ("random", "numpy.random") and name not in _MAKES


def changing_seed(module: SourceModule) -> Iterator[Match]:
    """A seed that another run does not have: of the clock, of the process, or of the operating system."""
    for call, called in module.calls():
        seeds = [item.value for item in call.keywords if item.arg in ("seed", "random_state")]
        if called.rpartition(".")[2] in _SEEDING:
            seeds += call.args[:1]
        found = [changing(module, seed, _CHANGING) for seed in seeds]
        if any(found):
            yield call, f"a seed of {next(filter(None, found))}"


def changing(module: SourceModule, node: ast.expr, names: tuple[str, ...], depth: int = 3) -> str:
    """Which of these calls a value comes from, also through the names of other values."""
    for call, called in module.calls(node):
        if any(called == name or (name.endswith(".") and called.startswith(name)) for name in names):
            return f"{ast.unparse(call.func)}()"
    inner = [item for item in ast.walk(node) if isinstance(item, ast.Name) and depth]
    found = (changing(module, value, names, depth - 1) for item in inner for value in module.assigned(item))
    return next(filter(None, found), "")


def entropy(module: SourceModule) -> Iterator[Match]:
    """What the operating system makes at random, used as it is."""
    seeds = {inner for call, _ in changing_seed(module) for inner in ast.walk(call)}
    for call, called in module.calls():
        if call not in seeds and called.startswith(_ENTROPY):
            yield call, f"{called}()"
