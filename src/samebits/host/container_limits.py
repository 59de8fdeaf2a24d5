"""How much a container may use: what the user's own `config.toml` says, else the defaults.

memory     90 % of the machine's; swap comes not on top
pids       4,096 processes and threads
tmp-size   half of the memory
cpus       all; fewer make a run slower, and change no bit
"""

import re
from collections.abc import Mapping
from typing import Any

from samebits.core.errors import InputError
from samebits.core.user_config import read_user_config

PIDS = 4_096
_SIZE = re.compile(r"(\d{1,12})([kmgt]?)", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def limit_options(total: object) -> dict[str, Any]:
    """The options of a new container; `total` is the memory of the engine's machine, as far as the engine says."""
    chosen = read_user_config()
    memory = _bytes(chosen, "memory") or (total * 9 // 10 if isinstance(total, int) and total > 0 else None)
    size = _bytes(chosen, "tmp-size") or (None if memory is None else memory // 2)
    return {
        "pids_limit": chosen.get("pids", PIDS),
        "tmpfs": {"/tmp": "mode=1777" if size is None else f"mode=1777,size={size}"},  # noqa: S108  in the container
        # As much with swap as without: a script that runs out of memory ends, instead of the machine.
        **({} if memory is None else {"mem_limit": memory, "memswap_limit": memory}),
        **({"nano_cpus": round(chosen["cpus"] * 1e9)} if "cpus" in chosen else {}),
    }


def _bytes(chosen: Mapping[str, Any], name: str) -> int | None:
    return parse_size(f"{name} in the user's config.toml", chosen[name]) if name in chosen else None


def parse_size(what: str, text: str) -> int:
    """A size such as 8g, in bytes; raises InputError, which names `what`."""
    match = _SIZE.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise InputError(f"{what} is a size such as 8g, not {text!r}")
    return int(match[1]) << _UNITS[match[2].lower()]
