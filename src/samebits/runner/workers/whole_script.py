"""A script for one worker, trained by several: all of it runs in the scope of one strategy.

Then Keras's `fit`, `evaluate` and `predict` give each worker its part of each batch. A loop of the script's own would
train the whole batch in every worker, so that is refused.
"""

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samebits.core.errors import SettingError
from samebits.runner.compat.patches import Patches

_OWN = re.compile(rb"\bdistribute\b|Strategy\b|TF_CONFIG")
"""What a script has that distributes by itself, or imports what does."""

OWN_LOOP = (
    "the script trains in a loop of its own, which --workers can only split where the script makes a"
    " MultiWorkerMirroredStrategy and calls strategy.run; use `fit`, or see docs/workers.md"
)


def distributes_itself(code: Path) -> bool:
    """Whether a file of the code names a strategy."""
    return any(_OWN.search(path.read_bytes()) for path in code.rglob("*.py") if path.is_file())


@contextmanager
def in_one_scope(patches: Patches) -> Iterator[None]:
    """Run the body in the scope of a strategy that unites all workers. Raises SettingError where they do not meet."""
    import keras
    import tensorflow as tf

    patches.wrap((tf.GradientTape, "gradient"), _of_own_variables)
    patches.wrap((keras.optimizers.Optimizer, "apply"), _within_replicas)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, tf.errors.OpError) as error:
        raise SettingError(f"the workers did not find each other: {error}") from error
    with strategy.scope():
        yield


def _of_own_variables(original: Callable[..., Any]) -> Callable[..., Any]:
    """A tape's `gradient`, which TensorFlow refuses for variables of all workers where no strategy has split the batch.

    Raises SettingError in place of its error.
    """
    import tensorflow as tf

    @functools.wraps(original)
    def gradient(*arguments: Any, **options: Any) -> Any:
        try:
            return original(*arguments, **options)
        except ValueError as error:
            if tf.distribute.in_cross_replica_context():
                raise SettingError(OWN_LOOP) from error
            raise

    return gradient


def _within_replicas(original: Callable[..., Any]) -> Callable[..., Any]:
    """An optimizer's `apply` that raises SettingError where no strategy has split the batch."""
    import tensorflow as tf

    @functools.wraps(original)
    def apply(optimizer: Any, *arguments: Any, **options: Any) -> Any:
        if tf.distribute.in_cross_replica_context():
            raise SettingError(OWN_LOOP)
        return original(optimizer, *arguments, **options)

    return apply
