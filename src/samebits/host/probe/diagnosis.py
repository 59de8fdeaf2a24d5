"""Likely causes of a divergence between two runs: lines of the script, operations, or advice on what to look for."""

import itertools
import re
from collections.abc import Iterator, Sequence

from samebits.core.environment import NondeterministicOpUse
from samebits.core.script_uses import EntropyUse
from samebits.core.trial import CLOCK, CORES, FOLDERS, HASH_SEED, HOST, MEMORY, PERTURBATIONS, USER
from samebits.host.lint.findings import ENTROPY, NONDETERMINISTIC_OP
from samebits.host.lint.linter import BY_CODE, LintResult

ITSELF = "none of the perturbations; the script is nondeterministic on its own"
"""The cause when the script diverges from itself without any perturbation."""

_RULES_BY_CAUSE = {
    HASH_SEED: ("SB201", "SB202", "SB401"),
    FOLDERS: ("SB203", "SB304"),
    CORES: ("SB401", "SB103", "SB305", "SB601"),
    CLOCK: ("SB104", "SB601"),
    USER: ("SB104",),
    HOST: ("SB104",),
    MEMORY: ("SB104", "SB201"),
    ITSELF: ("SB101", "SB102", "SB103", "SB104", "SB105", "SB303", "SB305", "SB501", "SB601", "SB602", "SB603"),
}
"""The rules whose findings can explain a cause, the likely ones first."""

_ENTROPY_RULES = ("SB101", "SB102", "SB104", "SB105", ENTROPY.code)
"""The rules on unseeded randomness."""

_PATTERNS = {
    HASH_SEED: r"\b(frozenset|hash|set)\(|= *\{[^:]*\}",
    FOLDERS: r"(glob|iterdir|listdir|scandir|walk)\(",
    CORES: r"cpu_count|sched_getaffinity|workers",
    CLOCK: r"\b(ctime|gmtime|localtime|now|strftime|time|time_ns|today|utcnow)\(",
    USER: r"expanduser|getlogin|getuid|getuser|home\(|LOGNAME|USER",
    HOST: r"gethostname|getfqdn|node\(|uname",
    MEMORY: r"\bid\(|\bset\(|empty\(|empty_like\(",
    ITSELF: r"as_completed|imap_unordered|Process\(|Thread|workers|\bid\(|\b(now|time|time_ns)\(",
}
"""Patterns to search for in the script if no rule finds anything."""

_MAX_LINES = 3  # matching lines to show

_HINTS = {
    HASH_SEED: "look for iteration over a set, and for hash() of text; use sorted(…) and zlib.crc32",
    FOLDERS: "look for a folder listing, and wrap it in sorted(…)",
    CORES: "look for os.cpu_count(), and for threads or processes that share state",
    CLOCK: "look for a date or a time that the training depends on",
    USER: "look for a user name, user ID or home folder that the training depends on",
    HOST: "look for the host name",
    MEMORY: "look for id(), for sets of objects that hash by address, and for uninitialized memory (np.empty)",
    ITSELF: "look for races between threads or processes, for the clock or addresses (id(), sets of objects), and for"
    " unseeded randomness of other libraries",
}
"""Advice if no rule finds anything."""


def likely_causes(cause: str, checked: LintResult, entropy: Sequence[EntropyUse]) -> Iterator[str]:
    """The likely causes in the script: unseeded draws observed in the run, then findings of rules, else advice."""
    if cause == ITSELF:
        yield from (f"{use} {ENTROPY.what}" for use in entropy)
    codes = _RULES_BY_CAUSE.get(cause, tuple(BY_CODE))
    # Ignored findings count, too: the comment may be wrong.
    broken = [item for item in (*checked.findings, *checked.ignored) if item.code in codes]
    yield from (item.text(BY_CODE) for item in sorted(broken, key=lambda item: codes.index(item.code)))
    if not broken and not (cause == ITSELF and entropy):
        yield from _matching_lines(_PATTERNS.get(cause), checked)
        yield _HINTS.get(cause, "look for code that depends on two of them together")


def hinted_perturbations(checked: LintResult) -> list[str]:
    """The perturbations that findings or patterns in the script point to, except for the memory layout."""
    codes = {item.code for item in (*checked.findings, *checked.ignored)}

    def hinted(name: str) -> bool:
        return bool(codes.intersection(_RULES_BY_CAUSE[name])) or any(_matching_lines(_PATTERNS[name], checked))

    return [name for name in PERTURBATIONS if name != MEMORY and hinted(name)]


def _matching_lines(pattern: str | None, checked: LintResult) -> Iterator[str]:
    """The first lines of the script that match a pattern; comments and imports do not count."""
    if pattern is None:
        return
    found = (
        f"{path}:{number}: {line.strip()}"
        for path, text in checked.sources.items()
        for number, line in enumerate(text.splitlines(), 1)
        # Comments may mention the words, and imports always do.
        if re.search(pattern, line.partition("#")[0]) and not re.match(r"\s*(import|from)\s", line)
    )
    yield from itertools.islice(found, _MAX_LINES)


def unexplained(entropy: Sequence[EntropyUse], checked: LintResult) -> Iterator[EntropyUse]:
    """The unseeded draws of a run in lines without a finding or an ignore comment for them."""
    # A finding or an ignore comment already covers the line.
    known = {(item.path, item.line) for item in checked.findings if item.code in _ENTROPY_RULES}
    known |= {(path, line) for path, line, code in checked.allowed if code in _ENTROPY_RULES}
    yield from (use for use in entropy if (use.path, use.line) not in known)


def describe_nondeterministic_op(item: NondeterministicOpUse) -> str:
    """One line of text on an operation without a deterministic implementation."""
    layer = f" (layer {item.layer})" if item.layer else ""
    where = "on a GPU" if item.gpu_only else "on any device"
    workaround = item.way or 'the only workaround is `with tf.device("CPU:0")`'
    cost = "" if item.seconds is None else f"; on this CPU it takes {item.seconds * 1000:.2f} ms"
    return f"{item.operation}{layer} {NONDETERMINISTIC_OP.what} {where}: {workaround}{cost}"
