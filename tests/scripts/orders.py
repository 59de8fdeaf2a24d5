"""Train one tiny model for each thing that decides the order of rows: `orders.py [NAME ...]`.

Without names, all of REPEATS. A model is named after its effect. All start from the same weights whatever the seed,
so that the weights at the end tell which values came in which order, and nothing else.
"""

import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

ROWS, WIDTH, BATCH = 64, 12, 8
CALLS = 4
FOLDER = Path(tempfile.mkdtemp())
Arguments = dict[str, Any]

seed = random.getrandbits(31)  # drawn from what seeded Python, so that it follows the seed of the run
numbers = np.random.default_rng(1)
x = (numbers.integers(-1000, 1001, (ROWS, WIDTH)) / 1000).astype("float32")
y = x[:, :1] + x[:, 1:2]


def pause() -> None:
    """Up to 2 ms, and others in each run: whatever may overtake another, does."""
    time.sleep(os.urandom(1)[0] / 128_000)


def noise(generator: Any, like: Any) -> Any:
    """Small numbers from a generator of NumPy's."""
    return generator.normal(scale=0.1, size=like.shape).astype("float32")


# Arrays


def in_order() -> Arguments:
    """No effect at all: what must not change an order is compared with it."""
    return {"x": x, "y": y, "batch_size": BATCH, "shuffle": False}


def fit_shuffle() -> Arguments:
    return {"x": x, "y": y, "batch_size": BATCH, "shuffle": True}


def fit_validation_split() -> Arguments:
    return {"x": x, "y": y, "batch_size": BATCH, "validation_split": 0.25}


# Pipelines


def rows() -> Any:
    return tf.data.Dataset.from_tensor_slices((x, y))


def batched(dataset: Any) -> Arguments:
    return {"x": dataset.batch(BATCH).prefetch(2)}


def shuffle() -> Arguments:
    return batched(rows().shuffle(ROWS))


def shuffle_once() -> Arguments:
    return batched(rows().shuffle(ROWS, reshuffle_each_iteration=False))


def shuffle_seeded() -> Arguments:
    return batched(rows().shuffle(ROWS, seed=3))


def shuffle_seeded_once() -> Arguments:
    return batched(rows().shuffle(ROWS, seed=3, reshuffle_each_iteration=False))


def slowly(row: Any) -> Any:
    """The same row, later; stateless as far as TensorFlow knows, which would else keep such calls apart."""

    def wait(values: Any) -> Any:
        pause()
        return values

    later = tf.numpy_function(wait, [row], tf.float32, stateful=False)
    later.set_shape(row.shape)
    return later


def map_slow() -> Arguments:
    return batched(rows().map(lambda a, b: (slowly(a), b), num_parallel_calls=CALLS))


def map_slow_unordered() -> Arguments:
    """A script that allows any order; op determinism overrides it."""
    options = tf.data.Options()
    options.deterministic = False
    return batched(rows().map(lambda a, b: (slowly(a), b), num_parallel_calls=CALLS).with_options(options))


def map_random() -> Arguments:
    def jitter(a: Any, b: Any) -> Any:
        return slowly(a) + tf.random.normal([WIDTH], stddev=0.1), b

    return batched(rows().map(jitter, num_parallel_calls=CALLS))


def map_random_seeded() -> Arguments:
    def jitter(a: Any, b: Any) -> Any:
        return slowly(a) + tf.random.normal([WIDTH], stddev=0.1, seed=3), b

    return batched(rows().map(jitter, num_parallel_calls=CALLS))


def map_random_stateless() -> Arguments:
    def jitter(index: Any, row: Any) -> Any:
        return slowly(row[0]) + tf.random.stateless_normal([WIDTH], tf.stack([3, index]), stddev=0.1), row[1]

    return batched(rows().enumerate().map(jitter, num_parallel_calls=CALLS))


def map_numpy_global() -> Arguments:
    """NumPy's global generator, drawn from by parallel calls."""

    def draw(values: Any) -> Any:
        pause()
        return values + noise(np.random, values)

    def jitter(a: Any, b: Any) -> Any:
        drawn = tf.numpy_function(draw, [a], tf.float32)
        drawn.set_shape(a.shape)
        return drawn, b

    return batched(rows().map(jitter, num_parallel_calls=CALLS))


def map_augmentation() -> Arguments:
    flip = keras.layers.RandomFlip("horizontal")

    def augment(a: Any, b: Any) -> Any:
        return tf.reshape(flip(tf.reshape(slowly(a), (2, 2, 3)), training=True), (WIDTH,)), b

    return batched(rows().map(augment, num_parallel_calls=CALLS))


def interleave(**options: Any) -> Arguments:
    def shard(index: Any) -> Any:
        return rows().shard(CALLS, index).map(lambda a, b: (slowly(a), b))

    shards = tf.data.Dataset.range(CALLS)
    return batched(shards.interleave(shard, cycle_length=CALLS, block_length=2, num_parallel_calls=CALLS, **options))


def interleave_unordered() -> Arguments:
    return interleave(deterministic=False)


def sample_from_datasets() -> Arguments:
    halves = [rows().take(ROWS // 2).repeat(), rows().skip(ROWS // 2).repeat()]
    return batched(tf.data.Dataset.sample_from_datasets(halves, [0.5, 0.5]).take(ROWS))


# Files


def write_images() -> None:
    """Two folders of images, written in an order drawn anew each time: a file system may list them in that order."""
    names = [FOLDER / kind / f"{number:02}.png" for kind in ("one", "two") for number in range(ROWS // 2)]
    values = ((x + 1) * 127).astype("uint8").reshape(ROWS, 2, 2, 3)
    for index in random.SystemRandom().sample(range(ROWS), ROWS):
        names[index].parent.mkdir(exist_ok=True)
        tf.io.write_file(str(names[index]), tf.io.encode_png(values[index]))


def read_images(paths: Any) -> Arguments:
    def read(path: Any) -> Any:
        values = tf.reshape(tf.cast(tf.io.decode_png(tf.io.read_file(path), 3), tf.float32) / 255, (WIDTH,))
        return values, values[:1]

    return batched(paths.map(read, num_parallel_calls=CALLS))


def files_listdir_sorted() -> Arguments:
    paths = [f"{FOLDER}/{kind}/{name}" for kind in ("one", "two") for name in sorted(os.listdir(FOLDER / kind))]
    return read_images(tf.data.Dataset.from_tensor_slices(paths))


def files_glob_sorted() -> Arguments:
    return read_images(tf.data.Dataset.from_tensor_slices(sorted(map(str, FOLDER.glob("*/*.png")))))


def files_list_files() -> Arguments:
    return read_images(tf.data.Dataset.list_files(f"{FOLDER}/*/*.png"))


def files_list_files_in_order() -> Arguments:
    return read_images(tf.data.Dataset.list_files(f"{FOLDER}/*/*.png", shuffle=False))


def from_directory(**options: Any) -> Arguments:
    def flat(images: Any, labels: Any) -> Any:
        return tf.reshape(images, (-1, WIDTH)) / 255, tf.reshape(labels, (-1, 1))

    images = keras.utils.image_dataset_from_directory(
        FOLDER, image_size=(2, 2), batch_size=BATCH, verbose=False, **options
    )
    return {"x": images.map(flat)}


def files_directory() -> Arguments:
    return from_directory()


def files_directory_seeded() -> Arguments:
    return from_directory(seed=3)


# Python's own loaders


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """Batches with noise from the generator that `choose` gives for an index."""

    def __init__(self, choose: Callable[[int], Any], **options: Any) -> None:
        super().__init__(**options)
        self.choose = choose

    def __len__(self) -> int:
        return ROWS // BATCH

    def __getitem__(self, index: int) -> Any:
        part = slice(index * BATCH, (index + 1) * BATCH)
        pause()
        return x[part] + noise(self.choose(index), x[part]), y[part]


def loader_one_worker() -> Arguments:
    shared = np.random.default_rng(3)
    return {"x": Batches(lambda _: shared)}


def loader_own_state() -> Arguments:
    return {"x": Batches(lambda index: np.random.default_rng([3, index]))}


def loader_workers_own_state() -> Arguments:
    return {"x": Batches(lambda index: np.random.default_rng([3, index]), workers=CALLS)}


def batches(numbers: Any) -> Iterator[Any]:
    """Without end, as Keras wants generators; it may run them in a thread, ahead of training."""
    while True:
        for part in np.split(np.arange(ROWS), ROWS // BATCH):
            pause()
            yield x[part] + noise(numbers, x[part]), y[part]


def generator() -> Arguments:
    return {"x": batches(np.random.default_rng(3)), "steps_per_epoch": ROWS // BATCH}


def generator_numpy_global() -> Arguments:
    """Validation draws from what training draws from: running ahead would show."""
    validation = {"validation_data": batches(np.random), "validation_steps": 2}
    return {"x": batches(np.random), "steps_per_epoch": ROWS // BATCH, **validation}


# What no setting can repeat


def unseeded_generator() -> Arguments:
    return {"x": x + noise(np.random.default_rng(), x), "y": y, "batch_size": BATCH}


def seed_from_the_clock() -> Arguments:
    keras.utils.set_random_seed(time.time_ns() % 2**32)
    return fit_shuffle()


def loader_workers_shared_state() -> Arguments:
    """Which worker draws first is the scheduler's choice."""
    shared = np.random.default_rng(3)
    return {"x": Batches(lambda _: shared, workers=CALLS)}


REPEATS = (
    in_order,
    fit_shuffle,
    fit_validation_split,
    shuffle,
    shuffle_once,
    shuffle_seeded,
    shuffle_seeded_once,
    map_slow,
    map_slow_unordered,
    map_random,
    map_random_seeded,
    map_random_stateless,
    map_numpy_global,
    map_augmentation,
    interleave,
    interleave_unordered,
    sample_from_datasets,
    files_listdir_sorted,
    files_glob_sorted,
    files_list_files,
    files_list_files_in_order,
    files_directory,
    files_directory_seeded,
    loader_one_worker,
    loader_own_state,
    loader_workers_own_state,
    generator,
    generator_numpy_global,
)
DIFFERS = (unseeded_generator, seed_from_the_clock, loader_workers_shared_state)


def network(name: str) -> Any:
    start = keras.initializers.RandomUniform(-0.5, 0.5, seed=1)
    hidden = keras.layers.Dense(4, activation="relu", kernel_initializer=start)
    model = keras.Sequential(
        [keras.Input((WIDTH,)), hidden, keras.layers.Dense(1, kernel_initializer=start)], name=name
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


by_name = {effect.__name__: effect for effect in (*REPEATS, *DIFFERS)}
try:
    write_images()
    for name in sys.argv[1:] or [effect.__name__ for effect in REPEATS]:
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)  # so that no effect hangs on those before it
        network(name).fit(**by_name[name](), epochs=2, verbose=0)
finally:
    shutil.rmtree(FOLDER)
