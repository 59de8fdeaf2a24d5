"""Train a small convolutional network on 1,797 handwritten digits of 8x8 pixels."""

import argparse
import json
import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

TEST_ROWS = 360
HERE = Path(__file__).resolve().parent


def load(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the images, shaped (rows, 8, 8, 1), and the labels, in a fixed order."""
    table = np.loadtxt(folder / "digits.csv.gz", delimiter=",", dtype=np.float32)
    table = np.random.default_rng(0).permutation(table)
    return table[:, :64].reshape(-1, 8, 8, 1), table[:, 64].astype(np.int32)


def build() -> keras.Model:
    """Return the compiled network."""
    layers = [
        keras.Input((8, 8, 1)),
        keras.layers.Rescaling(1 / 16),
        keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(10, activation="softmax"),
    ]
    model = keras.Sequential(layers)
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    """Train, evaluate, and write the model and its metrics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()

    x, y = load(Path(os.environ.get("SAMEBITS_DATA", HERE / "data")))
    output = Path(os.environ.get("SAMEBITS_OUTPUT", "."))

    train = tf.data.Dataset.from_tensor_slices((x[:-TEST_ROWS], y[:-TEST_ROWS]))
    train = train.shuffle(len(train), seed=1)
    train = train.batch(args.batch_size).prefetch(tf.data.AUTOTUNE)
    test = tf.data.Dataset.from_tensor_slices((x[-TEST_ROWS:], y[-TEST_ROWS:]))
    test = test.batch(args.batch_size).prefetch(tf.data.AUTOTUNE)

    model = build()
    # The dataset shuffles; fit must not.
    model.fit(train, epochs=args.epochs, validation_data=test, shuffle=False, verbose=2)
    metrics = model.evaluate(test, verbose=0, return_dict=True)
    print(f"test accuracy: {metrics['accuracy']:.4f}")

    output.mkdir(parents=True, exist_ok=True)
    model.save(output / "model.keras")
    report = {
        "batch_size": args.batch_size,
        "epochs": args.epochs,
        "test_accuracy": metrics["accuracy"],
        "test_loss": metrics["loss"],
    }
    text = json.dumps(report, indent=2, sort_keys=True)
    (output / "metrics.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
