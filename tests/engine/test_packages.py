"""A project's packages in an image: their layers, and what `samebits build SCRIPT` says."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from samebits.host.docker import Engine, Image
from samebits.host.image.lockfile import read_lock, text_of
from support.command import ROOT, Done, call

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.slow]


@dataclass(frozen=True)
class Builds:
    """A script, and the tags of the images that were built for its packages."""

    folder: Path
    tags: list[str] = field(default_factory=list)

    def build(self, *names: str) -> tuple[Image, Done]:
        """`samebits build train.py` with these packages of the development lock as the project's."""
        pins = {pin.name: pin for pin in read_lock(ROOT / "requirements-dev.lock")}
        (self.folder / "requirements.lock").write_text(text_of(pins[name] for name in names))
        done = call("build", "train.py", "--json", folder=self.folder)
        assert done.status == 0, done.err
        self.tags.append(json.loads(done.out)["tag"])
        image = Engine().find_image(self.tags[-1])
        assert image is not None
        return image, done


@pytest.fixture
def builds(tmp_path: Path) -> Iterator[Builds]:
    (tmp_path / "train.py").write_text("import keras\n")
    builds = Builds(tmp_path)
    yield builds
    for tag in dict.fromkeys(builds.tags):
        Engine().remove_image(tag)


def test_one_more_small_package_leaves_the_layers_of_all_others(builds: Builds) -> None:
    """Of base, TensorFlow and large wheels: else it would take minutes."""
    first, _ = builds.build("ruff", "iniconfig")
    second, _ = builds.build("ruff", "iniconfig", "pluggy")
    assert first.labels["samebits.packages"] != second.labels["samebits.packages"]
    # What differs is the layer of small wheels, and that of the recipe. WORKDIR is between them.
    assert first.layers[:-3] == second.layers[:-3]
    assert first.layers[-3] != second.layers[-3]
    assert "is up to date" in builds.build("ruff", "iniconfig", "pluggy")[1].err
