"""The recipe: everything that determines the bits of a run. The recipe digest is the sha256 of its canonical JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from samebits.core.determinism_profile import Profile
from samebits.core.digest import Digest, ReadJson
from samebits.core.jsonio import Fields, differing_names
from samebits.core.run_files import safe_path

KERAS_ORDER = "keras"
PER_EPOCH = "per-epoch"
SAVED_MODEL_FINGERPRINT = "fingerprint.pb beside saved_model.pb"
"""Stands among the patterns for the `fingerprint.pb` of a SavedModel, into which TensorFlow writes a random number.

No pattern could say that: a file of that name elsewhere is the script's own.
"""
KNOWN_LOGS = ("*events.out.tfevents.*", "*plugins/profile/*", SAVED_MODEL_FINGERPRINT)
"""Patterns of files that differ in every run. The result does not cover them.

What TensorBoard reads holds times and host names.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageIdentity:
    """The software of a run, as digests.

    In an image, `python` is None, because `base` contains it; `config` is None under a plain `docker run`. In a virtual
    environment, `config` and `base` are None, and `python` is the version. `packages` is the lock of the project's own
    packages, if it has any; it came with version 1.5 of the record.
    """

    lock: Digest
    source: Digest
    config: Digest | None = None
    base: Digest | None = None
    python: str | None = None
    packages: Digest | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """The digest of the code tree, the script's path in it (with `/`) and the script's arguments.

    `modes` says whether the tree holds the executable bits of its files; before version 1.4 it did not. `module` is set
    for `python -m`. `pythonpath` are folders of the tree that are on the import path. `chosen_workdir` is None for the
    usual working folder. `redacted` are the options whose values the arguments lack, each with a slow digest of it.
    """

    tree: Digest
    entry: str
    arguments: tuple[str, ...] = ()
    modes: bool = False
    module: str | None = None
    pythonpath: tuple[str, ...] = ()
    chosen_workdir: str | None = None
    redacted: Mapping[str, str] = field(default_factory=dict)

    @property
    def workdir(self) -> str:
        """The folder of the tree in which the script runs: a script's own, and the whole tree for a module."""
        if self.chosen_workdir is not None:
            return self.chosen_workdir
        return "." if self.module is not None else PurePosixPath(self.entry).parent.as_posix()

    def to_dict(self) -> dict[str, Any]:
        """As the recipe has it. What does not apply is left out, so that older recipes keep their digests."""
        return {
            "tree": str(self.tree),
            "entry": self.entry,
            "arguments": list(self.arguments),
            **({"modes": True} if self.modes else {}),
            **({} if self.module is None else {"module": self.module}),
            **({} if not self.pythonpath else {"pythonpath": list(self.pythonpath)}),
            **({} if self.chosen_workdir is None else {"workdir": self.chosen_workdir}),
            **({} if not self.redacted else {"redacted": dict(self.redacted)}),
        }

    @classmethod
    def from_fields(cls, code: Fields) -> "Code":
        """Parse the output of `to_dict`; raises RecordError."""
        return cls(
            tree=code.parse("tree", Digest.parse),
            entry=code.parse("entry", safe_path),
            arguments=code.texts("arguments"),
            modes=code.optional("modes", bool) or False,
            module=code.optional("module", str),
            pythonpath=tuple(map(_folder, code.texts("pythonpath"))),
            chosen_workdir=None if code.optional("workdir", str) is None else code.parse("workdir", _folder),
            redacted=code.mapping("redacted", str) if "redacted" in code.given() else {},
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """`cpu`, or `gpu` with model, compute capability and number.

    `multiprocessors` is their number in each GPU, and `mig` the profile of a slice of one. Both came with version 1.7
    of the record.
    """

    kind: str = "cpu"
    model: str | None = None
    compute_capability: str | None = None
    count: int | None = None
    multiprocessors: int | None = None
    mig: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the recipe has it. What came later is left out where it is not known, so that digests stay."""
        values = asdict(self)
        return {
            name: value for name, value in values.items() if name not in {"multiprocessors", "mig"} or value is not None
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "Device":
        """Parse the output of `to_dict`; raises RecordError."""
        return cls(
            kind=fields.get("kind", str),
            model=fields.optional("model", str),
            compute_capability=fields.optional("compute_capability", str),
            count=fields.optional("count", int),
            multiprocessors=fields.optional("multiprocessors", int),
            mig=fields.optional("mig", str),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Runs with equal recipes give equal results within the hardware class of the profile.

    `ignore_outputs` changes no bit of a model. It is part of the recipe because it decides which files the result
    digest covers. A recipe that was read keeps the values it was read from, including fields of newer versions. Its
    digest is taken over them. `dataclasses.replace` drops them. `inputs` came with version 1.5 of the record.
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
    env: Mapping[str, str] = field(default_factory=dict)
    inputs: Digest | None = None
    _read: ReadJson | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def digest(self) -> Digest:
        """The recipe digest."""
        return Digest.of_json(self.to_dict()) if self._read is None else self._read.digest

    @property
    def determinism(self) -> Profile:
        """The determinism profile with its number of threads; raises InputError for values that no profile has."""
        return Profile(name=self.profile, threads=self.threads, device=self.device.kind)

    def to_dict(self) -> dict[str, Any]:
        """As the record stores it; a part that does not apply is None."""
        if self._read is not None:
            return self._read.copy()
        image = self.image
        return {
            "image": {
                "config": _digest_text(image.config),
                "base": _digest_text(image.base),
                "lock": str(image.lock),
                "source": str(image.source),
                "python": image.python,
                **({} if image.packages is None else {"packages": str(image.packages)}),
            },
            "code": self.code.to_dict(),
            "data": {"tree": _digest_text(self.data)},
            "seed": self.seed,
            "profile": {"name": self.profile, "threads": self.threads, "instruction_set": self.instruction_set},
            "device": self.device.to_dict(),
            "world_size": self.world_size,
            "ignore_outputs": list(self.ignore_outputs),
            # The default is left out, so that recipes from before this option keep their digests.
            **({} if self.shuffle == KERAS_ORDER else {"shuffle": self.shuffle}),
            **({} if not self.env else {"env": dict(self.env)}),
            **({} if self.inputs is None else {"inputs": str(self.inputs)}),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "Recipe":
        """Parse the output of `to_dict`; raises RecordError with the path of the wrong value."""
        image, profile = (fields.inner(name) for name in ("image", "profile"))
        recipe = cls(
            image=ImageIdentity(
                lock=image.parse("lock", Digest.parse),
                source=image.parse("source", Digest.parse),
                config=_optional_digest(image, "config"),
                base=_optional_digest(image, "base"),
                python=image.optional("python", str),
                packages=_optional_digest(image, "packages"),
            ),
            code=Code.from_fields(fields.inner("code")),
            data=_optional_digest(fields.inner("data"), "tree"),
            seed=fields.get("seed", int),
            profile=profile.get("name", str),
            threads=profile.get("threads", int),
            instruction_set=profile.get("instruction_set", str),
            device=Device.from_fields(fields.inner("device")),
            world_size=fields.get("world_size", int),
            ignore_outputs=fields.texts("ignore_outputs"),
            # `to_dict` leaves out the default.
            shuffle=fields.optional("shuffle", str) or KERAS_ORDER,
            env=fields.mapping("env", str) if "env" in fields.given() else {},
            inputs=_optional_digest(fields, "inputs"),
        )
        object.__setattr__(recipe, "_read", ReadJson.of(fields))
        return recipe


def differing_parts(one: Recipe, other: Recipe) -> list[str]:
    """The dotted names of all values that differ between two recipes, such as `code.arguments`."""
    # Flattened, so that a difference names the value rather than the object around it.
    return differing_names(leaves(one.to_dict()), leaves(other.to_dict()))


def leaves(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested objects by dotted name: `{"a": {"b": 1}}` gives `{"a.b": 1}`."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= leaves(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return found


def _folder(text: str) -> str:
    """A folder of the code tree; raises RecordError for one outside of it."""
    return text if text == "." else safe_path(text)


def _digest_text(digest: Digest | None) -> str | None:
    return None if digest is None else str(digest)


def _optional_digest(fields: Fields, name: str) -> Digest | None:
    return None if fields.optional(name, str) is None else fields.parse(name, Digest.parse)
