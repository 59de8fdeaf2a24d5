"""The image of a run that does not know its own digest: by labels, which derived images inherit."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from samebits.core.digest import Digest
from samebits.core.record import Record
from samebits.host.docker import Image
from samebits.host.image import rebuild
from samebits.host.image.rebuild import find_recorded

_OURS = Image(reference="samebits:cpu", id="sha256:b", labels={}, layers=("base", "tensorflow", "recipe"))
_DERIVED = Image(reference="mine:1", id="sha256:a", labels={}, layers=(*_OURS.layers, "pandas"))
_SETTINGS_ONLY = Image(reference="mine:2", id="sha256:c", labels={}, layers=_OURS.layers)
_OTHER = Image(reference="other:1", id="sha256:d", labels={}, layers=("base", "tensorflow", "another recipe"))

_OUR_STEPS = ["SHELL [/bin/sh -c]", "USER 1000:1000", "RUN cp -r /media /opt/samebits/recipe && …", "USER 0"]
_STEPS = {
    _OURS.reference: _OUR_STEPS,
    _OTHER.reference: _OUR_STEPS,
    _DERIVED.reference: ["USER 1000:1000", "RUN pip install pandas", *_OUR_STEPS],
    _SETTINGS_ONLY.reference: ["ENV OTHER=1", *_OUR_STEPS],
}


@pytest.fixture
def plain(example: Record) -> Record:
    """A run in a container that was started without a launcher."""
    image = replace(example.recipe.image, config=None, base=Digest.of_bytes(b"base"))
    return replace(example, recipe=replace(example.recipe, image=image))


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ([], None),
        ([_OURS], _OURS),
        ([_DERIVED, _OURS], _OURS),
        ([_OURS, _SETTINGS_ONLY], _OURS),
        ([_DERIVED], None),
        ([_SETTINGS_ONLY], None),
        ([_OURS, _OTHER], None),
    ],
)
def test_the_original_or_none(plain: Record, images: list[Image], expected: Image | None) -> None:
    engine: Any = SimpleNamespace(images_with=lambda _: images, history=lambda image: _STEPS[image.reference])
    assert find_recorded(engine, plain.recipe.image) == expected


@pytest.mark.parametrize("same", [True, False])
def test_an_image_that_is_another_keeps_no_name(example: Record, monkeypatch: pytest.MonkeyPatch, same: bool) -> None:
    """`samebits:rebuilt-…` would say that it is the recorded one."""
    recorded = Digest.of_bytes(b"recorded")
    image = replace(example.recipe.image, config=recorded)
    run: Any = SimpleNamespace(read=lambda: replace(example, recipe=replace(example.recipe, image=image)))
    removed: list[str] = []
    engine: Any = SimpleNamespace(find_image=lambda _: None, remove_image=removed.append)
    monkeypatch.setattr(rebuild, "_rebuild_image", lambda *_, **__: _OURS)
    monkeypatch.setattr(rebuild, "config_digest", lambda *_: recorded if same else Digest.of_bytes(b"another"))
    assert (rebuild.rebuild(engine, run).found == recorded) == same
    assert removed == ([] if same else [_OURS.reference])
