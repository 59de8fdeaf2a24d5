"""Every value of a recipe changes its digest, and differences are named by their path."""

from dataclasses import replace
from typing import Any

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import RecordError
from samebits.core.jsonio import Fields
from samebits.core.recipe import PER_EPOCH, Code, Device, ImageIdentity, Recipe, differing_parts
from samebits.core.record import Record

_OTHER = Digest.of_bytes(b"other")
_BARE = Recipe(
    image=ImageIdentity(lock=_OTHER, source=_OTHER),
    code=Code(tree=_OTHER, entry="train.py"),
    data=None,
    seed=0,
    profile="native",
    threads=2,
    instruction_set="x86-64-v3",
    device=Device(kind="gpu", model="NVIDIA A100-SXM4-40GB", compute_capability="8.0", count=2),
)

_PARTS = [
    ("image.config", _OTHER, "image.config"),
    ("image.config", None, "image.config"),
    ("image.base", _OTHER, "image.base"),
    ("image.lock", _OTHER, "image.lock"),
    ("image.source", _OTHER, "image.source"),
    ("image.python", "3.13.5", "image.python"),
    ("code.tree", _OTHER, "code.tree"),
    ("code.entry", "other.py", "code.entry"),
    ("code.arguments", (), "code.arguments"),
    ("code.arguments", ("--epochs", "3", "--note grün"), "code.arguments"),
    ("data", _OTHER, "data.tree"),
    ("data", None, "data.tree"),
    ("seed", 8, "seed"),
    ("profile", "portable", "profile.name"),
    ("threads", 3, "profile.threads"),
    ("instruction_set", "x86-64-v4", "profile.instruction_set"),
    ("device.kind", "gpu", "device.kind"),
    ("device.model", "NVIDIA L4", "device.model"),
    ("device.compute_capability", "8.9", "device.compute_capability"),
    ("device.count", 1, "device.count"),
    ("device.multiprocessors", 132, "device.multiprocessors"),
    ("device.mig", "1g.10gb", "device.mig"),
    ("world_size", 2, "world_size"),
    ("code.modes", True, "code.modes"),
    ("env", {"LR": "0.1"}, "env.LR"),
    ("inputs", _OTHER, "inputs"),
    ("ignore_outputs", (), "ignore_outputs"),
    ("ignore_outputs", ("log/*", "*.csv"), "ignore_outputs"),
]


@pytest.fixture
def recipe(example: Record) -> Recipe:
    return example.recipe


def _changed(recipe: Recipe, part: str, value: object) -> Recipe:
    """The recipe with another value in one field; nested fields have dotted names."""
    outer, _, inner = part.partition(".")
    if not inner:
        return replace(recipe, **{outer: value})  # type: ignore[arg-type]
    return replace(recipe, **{outer: replace(getattr(recipe, outer), **{inner: value})})


@pytest.mark.parametrize(("part", "value", "named"), _PARTS)
def test_every_part_counts(recipe: Recipe, part: str, value: object, named: str) -> None:
    other = _changed(recipe, part, value)
    assert other.digest != recipe.digest
    assert differing_parts(recipe, other) == differing_parts(other, recipe) == [named]
    assert Recipe.from_fields(Fields(other.to_dict())) == other


def test_all_differences_are_named(recipe: Recipe) -> None:
    assert differing_parts(recipe, recipe) == []
    assert differing_parts(recipe, replace(recipe, seed=1, data=None, code=replace(recipe.code, entry="a"))) == [
        "code.entry",
        "data.tree",
        "seed",
    ]


def test_the_table_leaves_no_part_out(recipe: Recipe) -> None:
    parts = {
        f"{outer}.{inner}" if inner else outer
        for outer, value in recipe.to_dict().items()
        for inner in (value if isinstance(value, dict) else [""])
    }
    # These are written only where they are not the default.
    assert {named for _, _, named in _PARTS} == parts | {
        *("code.modes", "device.multiprocessors", "device.mig", "env.LR", "inputs")
    }


def test_the_order_of_fit_counts(recipe: Recipe) -> None:
    """Keras's own order is left out, so that recipes from before there was a choice keep their digests."""
    other = replace(recipe, shuffle=PER_EPOCH)
    assert "shuffle" not in recipe.to_dict()
    assert differing_parts(recipe, other) == differing_parts(other, recipe) == ["shuffle"]
    assert Recipe.from_fields(Fields(other.to_dict())) == other


@pytest.mark.parametrize("whole", [True, False])
def test_round_trip(recipe: Recipe, *, whole: bool) -> None:
    before = recipe if whole else _BARE
    after = Recipe.from_fields(Fields(before.to_dict()))
    assert after == before
    assert after.digest == before.digest


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("image",), None, "missing value in 'recipe.image'"),
        (("image", "lock"), None, "missing value in 'recipe.image.lock'"),
        (("image", "base"), 1, "'recipe.image.base' must be str, not 1"),
        (("code", "tree"), "x", "'recipe.code.tree': not a digest: 'x'; a digest is sha256: followed by 64 hex digits"),
        (("code", "arguments"), ["a", None], "'recipe.code.arguments[1]' must be str, not None"),
        (("image", "python"), 3.13, "'recipe.image.python' must be str, not 3.13"),
        (("ignore_outputs",), ["a", 1], "'recipe.ignore_outputs[1]' must be str, not 1"),
        (("seed",), "7", "'recipe.seed' must be int, not '7'"),
        (("profile", "threads"), True, "'recipe.profile.threads' must be int, not True"),
        (("device", "kind"), None, "missing value in 'recipe.device.kind'"),
        (("world_size",), None, "missing value in 'recipe.world_size'"),
    ],
)
def test_errors_name_the_path(recipe: Recipe, path: tuple[str, ...], value: object, message: str) -> None:
    written: Any = recipe.to_dict()
    inner = written
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    with pytest.raises(RecordError) as caught:
        Recipe.from_fields(Fields(written, "recipe"))
    assert str(caught.value) == message
