"""Train on a table, with packages of the project's own: pandas, scikit-learn, Matplotlib and TensorBoard."""

import os
from pathlib import Path

import keras
import matplotlib as mpl
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

mpl.use("Agg")
# Without a salt, Matplotlib draws the identifiers in an SVG at random.
mpl.rcParams["svg.hashsalt"] = "samebits"

import matplotlib.pyplot as plt  # noqa: E402  after its backend is chosen

OUTPUT = Path(os.environ.get("SAMEBITS_OUTPUT", "."))

table = load_wine(as_frame=True).frame
train, test = train_test_split(table, test_size=0.25, random_state=0, stratify=table["target"])
scaler = StandardScaler().fit(train.drop(columns="target"))
x_train, x_test = (scaler.transform(part.drop(columns="target")) for part in (train, test))

model = keras.Sequential([
    keras.Input((x_train.shape[1],)),
    keras.layers.Dense(16, activation="relu"),
    keras.layers.Dense(3, activation="softmax"),
])  # fmt: skip
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(
    x_train,
    train["target"],
    validation_data=(x_test, test["target"]),
    epochs=20,
    verbose=0,
    callbacks=[keras.callbacks.TensorBoard("logs")],
)

curves = pd.DataFrame(history.history)
curves.to_csv(OUTPUT / "history.csv", index_label="epoch")
axes = curves[["loss", "val_loss"]].plot(xlabel="epoch", ylabel="cross-entropy", title="wine")
axes.figure.savefig(OUTPUT / "curves.png")
# The date of the drawing would differ from run to run.
axes.figure.savefig(OUTPUT / "curves.svg", metadata={"Date": None})
plt.close(axes.figure)
print(f"validation accuracy: {curves['val_accuracy'].iloc[-1]:.4f}")
