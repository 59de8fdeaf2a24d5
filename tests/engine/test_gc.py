"""What `gc` sees and removes of a real engine; nothing but the name that this test gives."""

from samebits.host.cleanup.engine_items import engine_items
from samebits.host.cleanup.run_needs import RunNeeds
from samebits.host.docker import Engine

NAME = "samebits:to-be-removed"


def test_names_of_images(engine: str) -> None:
    assert engine
    image = Engine().find_image("samebits:cpu")
    assert image is not None
    Engine().tag(image.id, NAME)
    try:
        found = {item.name: item for item in engine_items(RunNeeds(), 0)}
        assert found["samebits:cpu"].needed == "`samebits train` uses it"
        assert (found[NAME].kind, found[NAME].size, found[NAME].needed) == ("name of an image", 0, "")
        named = {item.name: item for item in engine_items(RunNeeds(images={image.id: ["run"]}), 0)}
        assert named[NAME].needed == "needed by run"
        found[NAME].remove()
        assert Engine().find_image(NAME) is None
        assert Engine().find_image("samebits:cpu") is not None
    finally:
        Engine().remove_image(NAME)
    assert all(item.needed for item in found.values() if item.kind == "build cache" and item.name.startswith("the"))
