"""What may be behind two runs that part: lines of the script, operations, or else what to look for."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from samebits.core.record import EntropyUse
from samebits.core.trial import CLOCK, CORES, FOLDERS, HASH_SEED, HOST, MEMORY, PERTURBATIONS, USER
from samebits.host.lint.findings import ENTROPY
from samebits.host.lint.linter import BY_CODE, LintResult

ITSELF = "nothing of these, it does not repeat by itself"

_RULES = {
    HASH_SEED: ("SB201", "SB202", "SB401"),
    FOLDERS: ("SB203", "SB304"),
    CORES: ("SB401", "SB103", "SB305", "SB601"),
    CLOCK: ("SB104", "SB601"),
    USER: ("SB104",),
    HOST: ("SB104",),
    MEMORY: ("SB104", "SB201"),
    ITSELF: ("SB101", "SB102", "SB103", "SB104", "SB105", "SB303", "SB305", "SB501", "SB601", "SB602"),
}
"""The rules that can be broken where this parts two runs, the likely ones first."""

_ENTROPY = ("SB101", "SB102", "SB104", "SB105", ENTROPY.code)
"""The rules on randomness that no seed reaches."""

_WORDS = {
    HASH_SEED: r"\b(frozenset|hash|set)\(|= *\{[^:]*\}",
    FOLDERS: r"(glob|iterdir|listdir|scandir|walk)\(",
    CORES: r"cpu_count|sched_getaffinity|workers",
    CLOCK: r"\b(ctime|gmtime|localtime|now|strftime|time|time_ns|today|utcnow)\(",
    USER: r"expanduser|getlogin|getuid|getuser|home\(|LOGNAME|USER",
    HOST: r"gethostname|getfqdn|node\(|uname",
    MEMORY: r"\bid\(|\bset\(|empty\(|empty_like\(",
    ITSELF: r"as_completed|imap_unordered|Process\(|Thread|workers|\bid\(|\b(now|time|time_ns)\(",
}
"""Words to look for in the script where no rule was broken."""

_MAX_LINES = 3  # lines with them

_HINTS = {
    HASH_SEED: "look for a set that is gone through, or hash() of a text; use sorted(…) around the one, zlib.crc32 for"
    " the other",
    FOLDERS: "look for a folder that is listed; put sorted(…) around it",
    CORES: "look for os.cpu_count(), and for threads or processes that share something",
    CLOCK: "look for a date or a time that decides something",
    USER: "look for a user's name, number or home that decides something",
    HOST: "look for the host's name",
    MEMORY: "look for id(), for sets of objects that hash by their address, and for values that were never written",
    ITSELF: "look for threads or processes that race for something, for what hangs on the clock or on addresses (id(),"
    " sets of objects), and for randomness of other libraries",
}
"""What to look for where no rule was broken."""


def likely_causes(because: str, checked: LintResult, entropy: Sequence[EntropyUse]) -> Iterator[str]:
    """Lines of the script that may be the cause: what was seen in the run, what a rule finds; else what to look for."""
    if because == ITSELF:
        yield from (f"{taken} {ENTROPY.what}" for taken in entropy)
    codes = _RULES.get(because, tuple(BY_CODE))
    broken = [item for item in (*checked.findings, *checked.ignored) if item.code in codes]
    yield from (item.text(BY_CODE) for item in sorted(broken, key=lambda item: codes.index(item.code)))
    if not broken and not (because == ITSELF and entropy):
        yield from _lines_with(_WORDS.get(because), checked)
        yield _HINTS.get(because, "look for what depends on two of them at once")


def pointed_to(checked: LintResult) -> list[str]:
    """What rules or words of the script speak of, but for the memory layout."""
    codes = {item.code for item in (*checked.findings, *checked.ignored)}
    return [
        name
        for name in PERTURBATIONS
        if name != MEMORY and (codes.intersection(_RULES[name]) or any(_lines_with(_WORDS[name], checked)))
    ]


def _lines_with(words: str | None, checked: LintResult) -> Iterator[str]:
    """The first lines in which one of these stands."""
    if words is None:
        return
    found = (
        f"{path}:{number}: {line.strip()}"
        for path, text in checked.sources.items()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(words, line.partition("#")[0]) and not re.match(r"\s*(import|from)\s", line)
    )
    yield from itertools.islice(found, _MAX_LINES)


def unexplained(entropy: Sequence[EntropyUse], checked: LintResult) -> Iterator[EntropyUse]:
    """What was seen in a run where no rule on that has found anything, and no comment lets it pass."""
    known = {(item.path, item.line) for item in checked.findings if item.code in _ENTROPY}
    known |= {(path, line) for path, line, code in checked.allowed if code in _ENTROPY}
    yield from (taken for taken in entropy if (taken.path, taken.line) not in known)


def describe_nondeterministic_op(item: Mapping[str, Any]) -> str:
    """An operation without a deterministic form, for people."""
    layer = f" (layer {item['layer']})" if item["layer"] else ""
    where = "on a GPU" if item["gpu_only"] else "anywhere"
    way = item["way"] or 'there is no way round but `with tf.device("CPU:0")`'
    seconds = item["seconds"]
    cost = "" if seconds is None else f"; on this CPU it takes {seconds * 1000:.2f} ms"
    return f"{item['operation']}{layer} has no deterministic form {where}: {way}{cost}"
