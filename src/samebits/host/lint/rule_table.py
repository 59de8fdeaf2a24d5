"""The table of rules of `samebits check`: code, defect, fix, and the function that finds it."""

from collections.abc import Callable, Iterator

from samebits.host.lint.findings import Rule
from samebits.host.lint.rules_data import (
    shared_generator_in_dataset,
    stateful_draw_in_parallel_map,
    unordered_pipeline,
    unseeded_loader,
    unseeded_shuffle,
)
from samebits.host.lint.rules_environment import clock_condition, late_setting, unseeded_sklearn
from samebits.host.lint.rules_ordering import set_iteration, text_hash, unsorted_listing
from samebits.host.lint.rules_outside import file_attributes, network_access
from samebits.host.lint.rules_randomness import (
    shared_generator_in_workers,
    system_entropy,
    unseeded_numpy,
    unseeded_python,
    varying_seed,
)
from samebits.host.lint.source_module import Match, SourceModule

# The hundreds are topics: seeds, order, data, settings, libraries, clock and network.
RULES: tuple[tuple[Rule, Callable[[SourceModule], Iterator[Match]]], ...] = (
    # SB1: seeds. No setting of a run can replace a seed that the script does not pass.
    (
        Rule(
            code="SB101",
            what="takes its seed from the operating system",
            fix="pass a seed: np.random.default_rng(7)",
        ),
        unseeded_numpy,
    ),
    (
        Rule(
            code="SB102",
            what="takes its seed from the operating system",
            fix="pass a seed: random.Random(7), tf.random.Generator.from_seed(7)",
        ),
        unseeded_python,
    ),
    (
        Rule(
            code="SB103",
            what="draws from a generator that threads or processes share, in scheduling order",
            fix="create a generator inside the function, from a seed and the index of the work item",
        ),
        shared_generator_in_workers,
    ),
    (
        Rule(code="SB104", what="differs in every run", fix="use a constant, or an argument of the script"),
        varying_seed,
    ),
    (
        Rule(
            code="SB105",
            what="returns random bytes of the operating system",
            fix="use a seeded generator or a counter",
        ),
        system_entropy,
    ),
    # SB2: orders. The pinned hash seed hides SB201 and SB202 under samebits, not elsewhere.
    (
        Rule(
            code="SB201",
            what="is iterated in hash order",
            fix="wrap it in sorted(…), or use dict.fromkeys(…), which keeps insertion order",
            harmless=True,
        ),
        set_iteration,
    ),
    (
        Rule(
            code="SB202",
            what="differs between processes",
            fix="use zlib.crc32(text.encode()) or hashlib",
            harmless=True,
        ),
        text_hash,
    ),
    (
        Rule(code="SB203", what="lists entries in file-system order", fix="wrap it in sorted(…)"),
        unsorted_listing,
    ),
    # SB3: data. Op determinism hides SB301 and SB303 under samebits, at the price of speed.
    (
        Rule(code="SB301", what="returns elements in completion order", fix="remove it: the default is True"),
        unordered_pipeline,
    ),
    (
        Rule(
            code="SB302",
            what="has a random order in every process without a global seed",
            fix="pass seed=7, or call keras.utils.set_random_seed first",
            harmless=True,
        ),
        unseeded_shuffle,
    ),
    (
        Rule(
            code="SB303",
            what="draws from one stateful generator in parallel calls",
            fix="use the stateless operation, with a seed from Dataset.random or a counter in the pipeline",
            harmless=True,
        ),
        stateful_draw_in_parallel_map,
    ),
    (
        Rule(code="SB304", what="shuffles without a seed", fix="pass seed=7 or shuffle=False"),
        unseeded_loader,
    ),
    (
        Rule(
            code="SB305",
            what="batches get their random numbers in scheduling order",
            fix="create a generator in __getitem__: np.random.default_rng([seed, epoch, index])",
        ),
        shared_generator_in_dataset,
    ),
    # SB4: settings that have no effect where the script makes them.
    (
        Rule(
            code="SB401",
            what="is set after it was read",
            fix="set it before the interpreter starts, as samebits does, or before the first import of TensorFlow",
        ),
        late_setting,
    ),
    # SB5: other libraries, which draw from NumPy's global generator.
    (
        Rule(code="SB501", what="draws without a random_state", fix="pass random_state=7"),
        unseeded_sklearn,
    ),
    # SB6: the outside world, which no seed controls.
    (
        Rule(
            code="SB601",
            what="depends on the clock, so on the speed of the machine or on the date",
            fix="count steps or epochs instead",
        ),
        clock_condition,
    ),
    (
        Rule(
            code="SB602",
            what="reads from the network, where data can change",
            fix="pin it with `samebits fetch`, or pass a folder with --data",
        ),
        network_access,
    ),
    (
        Rule(
            code="SB603",
            what="reads a file's time, owner or number, which differ between copies of the same data",
            fix="decide by the file's name or content",
        ),
        file_attributes,
    ),
)
"""Every rule, in the order of the codes."""
