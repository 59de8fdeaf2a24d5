"""How the script's strategy finds the other workers, and how they compute together."""

import functools
from collections.abc import Callable
from typing import Any

from samebits.core.errors import SettingError
from samebits.runner.compat import multi_worker
from samebits.runner.compat.keras_private import inner_variable
from samebits.runner.compat.patches import Patches
from samebits.runner.digests.tensors import DescribedGroups, VariableGroups
from samebits.runner.workers.worker import Worker


def join_cluster(worker: Worker, patches: Patches) -> None:
    """Have the script's strategy use RING collectives, and Keras's `fit` work under it."""
    import tensorflow as tf

    multi_worker.make_fit_work(patches)
    multi_worker.leave_pipelines_untuned(patches)
    patches.wrap((tf.distribute.MultiWorkerMirroredStrategy, "__init__"), functools.partial(_checked, worker=worker))


def _checked(original: Callable[..., None], worker: Worker) -> Callable[..., None]:
    """A strategy's `__init__`, which raises SettingError where the strategy would not unite exactly the workers."""

    @functools.wraps(original)
    def init(strategy: Any, cluster_resolver: Any = None, communication_options: Any = None) -> None:
        original(strategy, cluster_resolver, _with_ring(communication_options))
        found = _workers_of(strategy)
        if found != list(worker.addresses):
            raise SettingError(
                f"the script's strategy unites {len(found) or 'no'} workers of its own; leave TF_CONFIG and the cluster"
                " resolver to samebits"
            )
        worker.strategies += 1

    return init


def _workers_of(strategy: Any) -> list[str]:
    """The addresses of the workers that a strategy unites; empty where it trains alone."""
    resolver = strategy.cluster_resolver
    cluster = {} if resolver is None else resolver.cluster_spec().as_dict()
    return list(cluster.get("worker", ())) if set(cluster) <= {"worker"} else []


def _with_ring(options: Any) -> Any:
    """The script's options with the one implementation whose order of sums is known."""
    import tensorflow as tf

    kinds = tf.distribute.experimental.CommunicationImplementation
    if options is None:
        return tf.distribute.experimental.CommunicationOptions(implementation=kinds.RING)
    if options.implementation == kinds.NCCL:
        raise SettingError("the script asks for NCCL, which is for GPUs; leave the implementation out, or use RING")
    return tf.distribute.experimental.CommunicationOptions(
        bytes_per_pack=options.bytes_per_pack, timeout_seconds=options.timeout_seconds, implementation=kinds.RING
    )


def shared_tensors(groups: VariableGroups, described: DescribedGroups) -> list[tuple[str, str]]:
    """Name and digest of each variable that must be equal in all workers.

    Those are the trainable ones and the optimizers'. Keras keeps the others of a layer, such as the moving statistics
    of `BatchNormalization` and the states of generators, in each worker on its own.
    """
    return [
        (str(about["path"]), str(about["digest"]))
        for name in groups
        for variable, about in zip(groups[name], described[name], strict=True)
        if _is_shared(variable, of_optimizer="optimizer" in name.rpartition("/")[2])
    ]


def _is_shared(variable: Any, *, of_optimizer: bool) -> bool:
    import tensorflow as tf

    inner = inner_variable(variable)
    if not isinstance(inner, tf.distribute.DistributedValues):
        return False
    if getattr(inner, "synchronization", None) == tf.VariableSynchronization.ON_READ:
        return False
    return of_optimizer or bool(getattr(inner, "trainable", False))
