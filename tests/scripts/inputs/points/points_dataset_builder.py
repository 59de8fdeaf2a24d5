"""Points of two classes, from an archive in the network."""

import csv
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds


class Builder(tfds.core.GeneratorBasedBuilder):
    """Downloads, unpacks and prepares, as the library's own data sets do."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        point = tfds.features.Tensor(shape=(2,), dtype=np.float32)
        features = tfds.features.FeaturesDict({"x": point, "y": tfds.features.ClassLabel(num_classes=2)})
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("x", "y"))

    def _split_generators(self, dl_manager: Any) -> Any:
        folder = dl_manager.download_and_extract("https://example.com/points.zip")
        return {"train": self._generate_examples(folder / "points.csv")}

    def _generate_examples(self, path: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        with path.open() as file:
            for number, (first, second, label) in enumerate(csv.reader(file)):
                yield number, {"x": np.float32([first, second]), "y": int(label)}
