"""The rules of `samebits check`: what each looks for, what that breaks, and what to write instead."""

from collections.abc import Callable, Iterator

from samebits.host.lint.findings import Rule
from samebits.host.lint.rules_data import (
    data_with_shared_generator,
    loader_without_seed,
    pipeline_out_of_order,
    pipeline_without_seed,
    random_in_parallel_map,
)
from samebits.host.lint.rules_environment import control_by_the_clock, network, setting_too_late, sklearn_without_state
from samebits.host.lint.rules_ordering import hash_of_text, order_of_a_set, unsorted_listing
from samebits.host.lint.rules_randomness import (
    changing_seed,
    entropy,
    unseeded_numpy,
    unseeded_python,
    workers_that_draw,
)
from samebits.host.lint.source_module import Match, SourceModule

RULES: tuple[tuple[Rule, Callable[[SourceModule], Iterator[Match]]], ...] = (
    (
        Rule(
            code="SB101",
            what="takes its seed from the operating system",
            fix="give it one: np.random.default_rng(7)",
        ),
        unseeded_numpy,
    ),
    (
        Rule(
            code="SB102",
            what="takes its seed from the operating system",
            fix="give it one: random.Random(7), tf.random.Generator.from_seed(7)",
        ),
        unseeded_python,
    ),
    (
        Rule(
            code="SB103",
            what="is drawn from by threads or processes in whatever order they come",
            fix="make a generator within the function, from a seed and the number of what it works on",
        ),
        workers_that_draw,
    ),
    (
        Rule(code="SB104", what="is another seed in every run", fix="write a number, and vary it by an argument"),
        changing_seed,
    ),
    (
        Rule(
            code="SB105",
            what="is made at random by the operating system",
            fix="draw from a seeded generator, or count",
        ),
        entropy,
    ),
    (
        Rule(
            code="SB201",
            what="is gone through in an order that hashes decide",
            fix="put sorted(…) around it, or use dict.fromkeys(…), which keeps the order",
        ),
        order_of_a_set,
    ),
    (
        Rule(
            code="SB202",
            what="is another number in another process",
            fix="use zlib.crc32(text.encode()), or hashlib",
        ),
        hash_of_text,
    ),
    (
        Rule(code="SB203", what="is in the file system's order", fix="put sorted(…) around it"),
        unsorted_listing,
    ),
    (
        Rule(code="SB301", what="gives whatever is ready first", fix="leave it out: True is the default"),
        pipeline_out_of_order,
    ),
    (
        Rule(
            code="SB302",
            what="has another order in every process that nobody seeds",
            fix="give it seed=7, or call keras.utils.set_random_seed first",
        ),
        pipeline_without_seed,
    ),
    (
        Rule(
            code="SB303",
            what="draws from one counter side by side",
            fix="use the stateless operation, with a seed from dataset.random or a counter in the pipeline",
        ),
        random_in_parallel_map,
    ),
    (
        Rule(code="SB304", what="shuffles without a seed", fix="give it seed=7, or shuffle=False"),
        loader_without_seed,
    ),
    (
        Rule(
            code="SB305",
            what="so that batches get numbers in whatever order workers come",
            fix="make a generator in __getitem__: np.random.default_rng([seed, epoch, index])",
        ),
        data_with_shared_generator,
    ),
    (
        Rule(
            code="SB401",
            what="is set when it was read already",
            fix="set it before the interpreter starts, as samebits does, or before the first import of TensorFlow",
        ),
        setting_too_late,
    ),
    (
        Rule(code="SB501", what="draws by itself", fix="give it random_state=7"),
        sklearn_without_state,
    ),
    (
        Rule(
            code="SB601",
            what="decides by how fast, or when, this machine is",
            fix="count steps or epochs instead",
        ),
        control_by_the_clock,
    ),
    (
        Rule(
            code="SB602",
            what="reads from the network, which has something else another day",
            fix="download it once, and pass the folder with --data",
        ),
        network,
    ),
)
"""Every rule, in the order of the codes."""
