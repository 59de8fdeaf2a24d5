"""The recipe: all that determines the bits of a run; its canonical JSON's sha256 is the recipe digest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samebits.core.digest import Digest
from samebits.core.jsonio import Fields, differing_names

KERAS_ORDER = "keras"
PER_EPOCH = "per-epoch"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageIdentity:
    """The software. In a virtual environment `config` and `base` are None, and `python` is its version; in an image
    `python` is None, as the base holds it, and `config` is None under a bare `docker run`.
    """

    lock: Digest
    source: Digest
    config: Digest | None = None
    base: Digest | None = None
    python: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """The code tree, the script in it (with `/`) and the script's arguments."""

    tree: Digest
    entry: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """`cpu`, or `gpu` with model, compute capability and how many."""

    kind: str = "cpu"
    model: str | None = None
    compute_capability: str | None = None
    count: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Compare two by `to_dict`; equal recipes promise equal results within the profile's hardware class.

    `ignore_outputs` decides no bit of a model, but what the result digest is taken of.
    """

    image: ImageIdentity
    code: Code
    data: Digest | None
    seed: int
    profile: str
    threads: int
    instruction_set: str
    device: Device
    world_size: int = 1
    ignore_outputs: tuple[str, ...] = ()
    shuffle: str = KERAS_ORDER

    @property
    def digest(self) -> Digest:
        """Names the recipe."""
        return Digest.of_json(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it; None stands where a part does not apply."""
        image, device = self.image, self.device
        return {
            "image": {
                "config": _written(image.config),
                "base": _written(image.base),
                "lock": str(image.lock),
                "source": str(image.source),
                "python": image.python,
            },
            "code": {"tree": str(self.code.tree), "entry": self.code.entry, "arguments": list(self.code.arguments)},
            "data": {"tree": _written(self.data)},
            "seed": self.seed,
            "profile": {"name": self.profile, "threads": self.threads, "instruction_set": self.instruction_set},
            "device": {
                "kind": device.kind,
                "model": device.model,
                "compute_capability": device.compute_capability,
                "count": device.count,
            },
            "world_size": self.world_size,
            "ignore_outputs": list(self.ignore_outputs),
            # Left out where it says nothing, so that recipes from before it was known keep their digests.
            **({} if self.shuffle == KERAS_ORDER else {"shuffle": self.shuffle}),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "Recipe":
        """Read what `to_dict` wrote; raises RecordError with the path of what is wrong."""
        image, code, profile, device = (fields.inner(name) for name in ("image", "code", "profile", "device"))
        return cls(
            image=ImageIdentity(
                lock=Digest.parse(image.get("lock", str)),
                source=Digest.parse(image.get("source", str)),
                config=_read(image, "config"),
                base=_read(image, "base"),
                python=image.optional("python", str),
            ),
            code=Code(
                tree=Digest.parse(code.get("tree", str)),
                entry=code.get("entry", str),
                arguments=code.texts("arguments"),
            ),
            data=_read(fields.inner("data"), "tree"),
            seed=fields.get("seed", int),
            profile=profile.get("name", str),
            threads=profile.get("threads", int),
            instruction_set=profile.get("instruction_set", str),
            device=Device(
                kind=device.get("kind", str),
                model=device.optional("model", str),
                compute_capability=device.optional("compute_capability", str),
                count=device.optional("count", int),
            ),
            world_size=fields.get("world_size", int),
            ignore_outputs=fields.texts("ignore_outputs"),
            shuffle=fields.optional("shuffle", str) or KERAS_ORDER,
        )


def differing_parts(one: Recipe, other: Recipe) -> list[str]:
    """The dotted names of every part in which two recipes differ, such as `code.arguments`."""
    return differing_names(leaves(one.to_dict()), leaves(other.to_dict()))


def leaves(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested objects by their dotted names."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= leaves(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return found


def _written(digest: Digest | None) -> str | None:
    return None if digest is None else str(digest)


def _read(fields: Fields, name: str) -> Digest | None:
    text = fields.optional(name, str)
    return None if text is None else Digest.parse(text)
