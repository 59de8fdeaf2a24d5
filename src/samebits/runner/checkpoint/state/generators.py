"""Random generators of Python and NumPy, and the seed sequences that NumPy's children come from, to and from JSON."""

import random
from collections.abc import Mapping
from typing import Any

from samebits.runner.checkpoint.state.encoding import UncapturableError


def seeds_of(generator: Any) -> Any:
    """The seed sequence of a generator; None where it has another source of seeds."""
    import numpy as np

    seeds = getattr(generator.bit_generator, "seed_seq", None)
    return seeds if type(seeds) is np.random.SeedSequence else None


def seeds_as_json(seeds: Any) -> dict[str, Any] | None:
    """A seed sequence as JSON, with the number of children that it has spawned."""
    if seeds is None:
        return None
    entropy = seeds.entropy
    return {
        "entropy": [int(part) for part in entropy] if hasattr(entropy, "__len__") else int(entropy),
        "spawn_key": [int(part) for part in seeds.spawn_key],
        "pool_size": int(seeds.pool_size),
        "children": int(seeds.n_children_spawned),
    }


def restored_random(saved: Any, live: Any) -> random.Random:
    """A generator of Python in a saved state: the live one, or a new one."""
    found = live if isinstance(live, random.Random) else random.Random()  # noqa: S311  its state is restored
    version, state, gauss = saved
    found.setstate((version, tuple(state), None if gauss is None else float.fromhex(gauss)))
    return found


def restored_state(state: Mapping[str, Any], live: Any) -> Any:
    """A legacy generator of NumPy in a saved state: the live one, or a new one."""
    import numpy as np

    found = live if isinstance(live, np.random.RandomState) else np.random.RandomState()
    found.set_state(state)
    return found


def restored_generator(state: Mapping[str, Any], seeds: Mapping[str, Any] | None, live: Any, where: str) -> Any:
    """A generator of NumPy in a saved state: the live one, or a new one. Raises UncapturableError."""
    import numpy as np

    kind = state["bit_generator"]
    if not isinstance(live, np.random.Generator) or type(live.bit_generator).__name__ != kind:
        # An allow-list: the name comes from a file.
        if kind not in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"):
            raise UncapturableError(f"{where} is a random generator of an unknown type")
        live = np.random.Generator(getattr(np.random, kind)(restored_seeds(seeds, None, where)))
    # Where it has no children, its seeds do not matter any more; a script may take them from the system.
    elif seeds is not None and seeds["children"]:
        restored_seeds(seeds, seeds_of(live), where)
    live.bit_generator.state = state
    return live


def restored_seeds(saved: Mapping[str, Any] | None, live: Any, where: str) -> Any:
    """The live sequence, its children spawned as they were, or a new one. Raises UncapturableError."""
    import numpy as np

    if saved is None:
        return live
    if live is None:
        return np.random.SeedSequence(
            saved["entropy"],
            spawn_key=tuple(saved["spawn_key"]),
            pool_size=saved["pool_size"],
            n_children_spawned=saved["children"],
        )
    known = seeds_as_json(live)
    missing = saved["children"] - live.n_children_spawned
    if known is None or known | {"children": 0} != {**saved, "children": 0} or missing < 0:
        raise UncapturableError(f"{where} has other seeds when the script runs again")
    # NumPy counts the children, and gives no other way to set the number.
    live.spawn(missing)
    return live
