"""What a run was observed to run on: runtime, software, machine, settings, and how far its result can be reproduced."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from samebits.core.cpu_info import Cpu
from samebits.core.gpu_info import GpuReport
from samebits.core.jsonio import Fields
from samebits.core.script_uses import EntropyUse, ScriptSetting, UnpinnedUse

DOCKER, PODMAN, APPTAINER, KUBERNETES = "docker", "podman", "apptainer", "kubernetes"


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """The container engine, and what decides how it stores images and runs them."""

    name: str
    version: str | None = None
    api_version: str | None = None
    storage_driver: str | None = None
    containerd_image_store: bool | None = None
    cgroup_version: str | None = None
    runtime: str | None = None
    user_namespace: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        values = asdict(self)
        # Absent from records of most engines, and of earlier versions.
        namespace = values.pop("user_namespace")
        return values if namespace is None else values | {"user_namespace": namespace}

    @classmethod
    def from_fields(cls, fields: Fields) -> "EngineInfo":
        """Read what `to_dict` wrote."""
        return cls(
            name=fields.get("name", str),
            version=fields.optional("version", str),
            api_version=fields.optional("api_version", str),
            storage_driver=fields.optional("storage_driver", str),
            containerd_image_store=fields.optional("containerd_image_store", bool),
            cgroup_version=fields.optional("cgroup_version", str),
            runtime=fields.optional("runtime", str),
            user_namespace=fields.optional("user_namespace", str),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RunImage:
    """The image that a run was started in; `details` is what its build left: digests, layers, builder."""

    reference: str
    id: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        return {"reference": self.reference, "id": self.id, **self.details}

    @classmethod
    def from_fields(cls, fields: Fields) -> "RunImage":
        """Read what `to_dict` wrote."""
        return cls(
            reference=fields.get("reference", str), id=fields.get("id", str), details=fields.rest("reference", "id")
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Mount:
    """A mount of a container that is neither the engine's nor a run's.

    Its source is a path of the host, and is not recorded.
    """

    target: str
    kind: str
    read_only: bool

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        return asdict(self)

    @classmethod
    def from_fields(cls, fields: Fields) -> "Mount":
        """Read what `to_dict` wrote."""
        return cls(
            target=fields.get("target", str), kind=fields.get("kind", str), read_only=fields.get("read_only", bool)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedSystem:
    """Software and machine; `distributions` are installed packages by name, `memory` is in bytes."""

    python: str
    implementation: str
    tensorflow: str
    keras: str
    numpy: str
    distributions: Mapping[str, str]
    system: str
    kernel: str
    machine: str
    libc: str
    memory: int
    cpu: Cpu
    gpu: GpuReport
    variables: Mapping[str, str]
    cuda_built_for: str | None = None
    cudnn_built_for: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the record's environment holds it, beside other keys."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        return plain | {
            "distributions": dict(self.distributions),
            "cpu": self.cpu.to_dict(),
            "gpu": self.gpu.to_dict(),
            "variables": dict(self.variables),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "ObservedSystem":
        """Read what `to_dict` wrote."""
        return cls(
            python=fields.get("python", str),
            implementation=fields.get("implementation", str),
            tensorflow=fields.get("tensorflow", str),
            keras=fields.get("keras", str),
            numpy=fields.get("numpy", str),
            cuda_built_for=fields.optional("cuda_built_for", str),
            cudnn_built_for=fields.optional("cudnn_built_for", str),
            distributions=fields.mapping("distributions", str),
            system=fields.get("system", str),
            kernel=fields.get("kernel", str),
            machine=fields.get("machine", str),
            libc=fields.get("libc", str),
            memory=fields.get("memory", int),
            cpu=Cpu.from_fields(fields.inner("cpu")),
            gpu=GpuReport.from_fields(fields.inner("gpu")),
            variables=fields.mapping("variables", str),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Arithmetic:
    """How the machine computes: the digest of each operation, the digest of all, and what the libraries chose."""

    digest: str
    operations: Mapping[str, str]
    onednn: str | None = None
    openblas: str | None = None
    numpy_features: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As the record's environment holds it, beside other keys."""
        return {
            "fingerprint": {"digest": self.digest, "operations": dict(self.operations)},
            "onednn": self.onednn,
            "openblas": self.openblas,
            "numpy_features": list(self.numpy_features),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "Arithmetic":
        """Read what `to_dict` wrote."""
        fingerprint = fields.inner("fingerprint")
        return cls(
            digest=fingerprint.get("digest", str),
            operations=fingerprint.mapping("operations", str),
            onednn=fields.optional("onednn", str),
            openblas=fields.optional("openblas", str),
            numpy_features=fields.texts("numpy_features"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PortabilityGuarantee:
    """The profile that a run kept to; of a portable one, its operations and those not proven to be portable.

    `not_covered` names what else brought compiled code, such as pandas; it came with version 1.5 of the record.
    """

    profile: str
    operations: tuple[str, ...] | None = None
    unproven: tuple[str, ...] | None = None
    not_covered: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        lists = {"operations": self.operations, "unproven": self.unproven}
        found = {"profile": self.profile} | {name: list(items) for name, items in lists.items() if items is not None}
        return found | ({"not_covered": list(self.not_covered)} if self.not_covered else {})

    @classmethod
    def from_fields(cls, fields: Fields) -> "PortabilityGuarantee":
        """Read what `to_dict` wrote."""
        operations, unproven = (
            fields.texts(name) if name in fields.names() else None for name in ("operations", "unproven")
        )
        others = fields.texts("not_covered")
        return cls(profile=fields.get("profile", str), operations=operations, unproven=unproven, not_covered=others)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadBack:
    """One setting as asked for and as found; `by` says where it was read."""

    name: str
    asked: str
    found: str
    by: str

    def to_dict(self) -> dict[str, str]:
        """As the record holds it."""
        return {"name": self.name, "asked": self.asked, "found": self.found, "by": self.by}

    @classmethod
    def from_fields(cls, fields: Fields) -> "ReadBack":
        """Read what `to_dict` wrote."""
        name, asked, found, by = (fields.get(key, str) for key in ("name", "asked", "found", "by"))
        return cls(name=name, asked=asked, found=found, by=by)


@dataclass(frozen=True, kw_only=True, slots=True)
class NondeterministicOpUse:
    """An operation without a deterministic form, and its layer (or an empty text).

    `way` is how to avoid it, if there is one; `seconds` is what it takes on the CPU.
    """

    operation: str
    layer: str
    way: str | None
    gpu_only: bool
    seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        return asdict(self)

    @classmethod
    def from_fields(cls, fields: Fields) -> "NondeterministicOpUse":
        """Read what `to_dict` wrote."""
        return cls(
            operation=fields.get("operation", str),
            layer=fields.get("layer", str),
            way=fields.optional("way", str),
            gpu_only=fields.get("gpu_only", bool),
            seconds=fields.optional("seconds", float),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """All of it, as far as the run came: `runtime` is known from the start, `system` after the import.

    What is None was not observed: its keys are not in the file. `arithmetic` and `guarantee` came with version 1.1,
    `entropy` with 1.3, `mounts` (of a container) with 1.4, `unpinned` and `script_settings` with 1.5.
    `nondeterministic_ops` are those of a trial. `features_off` has the reason for each feature that these versions of
    the libraries turned off. `peak_memory` is in bytes.
    """

    runtime: str | None = None
    engine: EngineInfo | None = None
    image: RunImage | None = None
    image_note: str | None = None
    system: ObservedSystem | None = None
    arithmetic: Arithmetic | None = None
    settings: tuple[ReadBack, ...] | None = None
    guarantee: PortabilityGuarantee | None = None
    entropy: tuple[EntropyUse, ...] | None = None
    unpinned: tuple[UnpinnedUse, ...] | None = None
    script_settings: tuple[ScriptSetting, ...] | None = None
    nondeterministic_ops: tuple[NondeterministicOpUse, ...] | None = None
    features_off: Mapping[str, str] | None = None
    mounts: tuple[Mount, ...] | None = None
    peak_memory: int | None = None

    @property
    def in_container(self) -> bool:
        """Whether the run was started in a container of its image."""
        return self.runtime in {DOCKER, PODMAN, APPTAINER, KUBERNETES}

    def with_observed(self, more: "Environment") -> "Environment":
        """With what was observed since; settings are added to those that are known."""
        news = {item.name: getattr(more, item.name) for item in fields(more) if getattr(more, item.name) is not None}
        if more.settings is not None:
            news["settings"] = (*(self.settings or ()), *more.settings)
        return replace(self, **news)

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        known = {
            "runtime": self.runtime,
            "image": None if self.image is None else self.image.to_dict(),
            "image_note": self.image_note,
            "promise": None if self.guarantee is None else self.guarantee.to_dict(),
            "settings": _dicts(self.settings),
            "entropy": _dicts(self.entropy),
            "unpinned": _dicts(self.unpinned),
            "script_settings": _dicts(self.script_settings),
            "undetermined": _dicts(self.nondeterministic_ops),
            "features_off": None if self.features_off is None else dict(self.features_off),
            "mounts": _dicts(self.mounts),
            "peak_memory": self.peak_memory,
        }
        engine = {"engine": None if self.engine is None else self.engine.to_dict()}
        return {
            # A virtual environment, and a plain `docker run`, record that they know no engine.
            **({} if self.runtime is None and self.engine is None else engine),
            **({} if self.system is None else self.system.to_dict()),
            **({} if self.arithmetic is None else self.arithmetic.to_dict()),
            **{name: value for name, value in known.items() if value is not None},
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "Environment":
        """Read what `to_dict` wrote; raises RecordError with the path of what is wrong."""
        names = fields.given()
        settings, entropy, unpinned, made, undetermined, mounts = (
            fields.objects(name) if name in names else None
            for name in ("settings", "entropy", "unpinned", "script_settings", "undetermined", "mounts")
        )
        return cls(
            runtime=fields.optional("runtime", str),
            engine=EngineInfo.from_fields(fields.inner("engine")) if "engine" in names else None,
            image=RunImage.from_fields(fields.inner("image")) if "image" in names else None,
            image_note=fields.optional("image_note", str),
            system=ObservedSystem.from_fields(fields) if "python" in names else None,
            arithmetic=Arithmetic.from_fields(fields) if "fingerprint" in names else None,
            guarantee=PortabilityGuarantee.from_fields(fields.inner("promise")) if "promise" in names else None,
            settings=None if settings is None else tuple(map(ReadBack.from_fields, settings)),
            entropy=None if entropy is None else tuple(map(EntropyUse.from_fields, entropy)),
            unpinned=None if unpinned is None else tuple(map(UnpinnedUse.from_fields, unpinned)),
            script_settings=None if made is None else tuple(map(ScriptSetting.from_fields, made)),
            nondeterministic_ops=None
            if undetermined is None
            else tuple(map(NondeterministicOpUse.from_fields, undetermined)),
            features_off=fields.mapping("features_off", str) if "features_off" in names else None,
            mounts=None if mounts is None else tuple(map(Mount.from_fields, mounts)),
            peak_memory=fields.optional("peak_memory", int),
        )


def _dicts(items: Iterable[Any] | None) -> list[dict[str, Any]] | None:
    return None if items is None else [item.to_dict() for item in items]
