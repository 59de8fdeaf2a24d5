"""What came out of a run: its models with their tensors, the metrics of each `fit`, and the output files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from samebits.core.digest import Digest, ReadJson
from samebits.core.errors import RecordError, pluralize
from samebits.core.jsonio import Fields
from samebits.core.run_files import safe_path


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorDescription:
    """A tensor by its path, element type, shape, and the digest of its bytes."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    digest: str

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        return {"path": self.path, "dtype": self.dtype, "shape": list(self.shape), "digest": self.digest}

    @classmethod
    def from_fields(cls, fields: Fields) -> "TensorDescription":
        """Read what `to_dict` wrote."""
        return cls(
            path=fields.get("path", str),
            dtype=fields.get("dtype", str),
            shape=fields.items("shape", int),
            digest=fields.get("digest", str),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelResult:
    """A trained model: `how` is fit, loop, held or variables; `tensors` are by group, `digest` is of all of them."""

    name: str
    how: str
    tensors: Mapping[str, tuple[TensorDescription, ...]]
    digest: str

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        tensors = {group: [tensor.to_dict() for tensor in listed] for group, listed in self.tensors.items()}
        return {"name": self.name, "how": self.how, "tensors": tensors, "digest": self.digest}

    @classmethod
    def from_fields(cls, fields: Fields) -> "ModelResult":
        """Read what `to_dict` wrote."""
        groups = fields.inner("tensors")
        return cls(
            name=fields.get("name", str),
            how=fields.get("how", str),
            tensors={
                group: tuple(map(TensorDescription.from_fields, groups.objects(group)))
                for group in sorted(groups.names())
            },
            digest=fields.get("digest", str),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class FitResult:
    """One call of `fit`: the number of its model, and each metric's values as exact floats (or other text)."""

    model: int
    epochs: int
    history: Mapping[str, tuple[str, ...]]

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        history = {name: list(values) for name, values in self.history.items()}
        return {"model": self.model, "epochs": self.epochs, "history": history}

    @classmethod
    def from_fields(cls, fields: Fields) -> "FitResult":
        """Read what `to_dict` wrote."""
        history = fields.inner("history")
        return cls(
            model=fields.get("model", int),
            epochs=fields.get("epochs", int),
            history={name: _series(history, name) for name in sorted(history.names())},
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputFile:
    """A file that the script wrote; `by` says what the digest is of: bytes, tensors, or where a link leads."""

    path: str
    by: str
    digest: str

    def to_dict(self) -> dict[str, str]:
        """As the record holds it."""
        return {"path": self.path, "by": self.by, "digest": self.digest}

    @classmethod
    def from_fields(cls, fields: Fields) -> "OutputFile":
        """Read what `to_dict` wrote."""
        return cls(path=fields.parse("path", safe_path), by=fields.get("by", str), digest=fields.get("digest", str))


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """What a result leaves out.

    These are layers that the script `discarded` unobserved, models that were not saved, and output files that the
    recipe says to ignore.
    """

    discarded: int = 0
    unsaved: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it; `ignored` came with version 1.5."""
        ignored = {"ignored": list(self.ignored)} if self.ignored else {}
        return {"discarded": self.discarded, "unsaved": list(self.unsaved), **ignored}

    @classmethod
    def from_fields(cls, fields: Fields) -> "Coverage":
        """Read what `to_dict` wrote."""
        ignored = fields.texts("ignored") if "ignored" in fields.given() else ()
        return cls(discarded=fields.get("discarded", int), unsaved=fields.texts("unsaved"), ignored=ignored)


LAUNCHER = "launcher"
PROCESS = "process"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Whose word a result is: `by` the launcher, after the script's last process ended, or by the script's `process`.

    `claimed` names what the launcher could not measure itself: the process that ran the script computed its digest. The
    metrics of each `fit`, and the ledger's digests, are always the process's word.
    """

    by: str = PROCESS
    claimed: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        return {"by": self.by, "claimed": list(self.claimed)}

    @classmethod
    def from_fields(cls, fields: Fields) -> "Measured":
        """Read what `to_dict` wrote."""
        return cls(by=fields.get("by", str), claimed=fields.texts("claimed"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Everything that came out.

    A result that was read keeps the values that it was read from, with those that only a newer version knows: its
    digest is taken over them. `dataclasses.replace` drops them.
    """

    models: tuple[ModelResult, ...] = ()
    fits: tuple[FitResult, ...] = ()
    outputs: tuple[OutputFile, ...] = ()
    _read: ReadJson | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def digest(self) -> Digest:
        """Names the result."""
        return Digest.of_json(self.to_dict()) if self._read is None else self._read.digest

    @property
    def is_empty(self) -> bool:
        """Whether nothing came out, which any two runs would have in common."""
        return not (self.models or self.fits or self.outputs)

    def file_digests(self) -> dict[str, Digest]:
        """Digests of whole output files, by their path in the run's folder."""
        paths = {f"outputs/{item.path}": item.digest for item in self.outputs if item.by == "bytes"}
        # A name with a backslash is written otherwise in the manifest.
        return {path: Digest.parse(text) for path, text in paths.items() if "\\" not in path}

    @property
    def covers(self) -> str:
        """What it is the digest of, such as `2 models, 3 files`."""
        variables = [
            tensor for model in self.models if model.how == "variables" for tensor in model.tensors.get("variables", ())
        ]
        counted = (
            (sum(model.how != "variables" for model in self.models), "model", ""),
            (len(variables), "variable", " without a model"),
            (len(self.outputs), "file", ""),
        )
        parts = [pluralize(number, what) + which for number, what, which in counted if number]
        return (", ".join(parts) or "nothing") + ("" if self.models else " (no Keras model)")

    @property
    def final_metrics(self) -> dict[tuple[int, str], str]:
        """The last value of each metric, by the number of its `fit` and its name."""
        return {
            (number, name): values[-1] for number, fit in enumerate(self.fits) for name, values in fit.history.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        if self._read is not None:
            return self._read.copy()
        return {
            "models": [model.to_dict() for model in self.models],
            "fits": [fit.to_dict() for fit in self.fits],
            "outputs": [output.to_dict() for output in self.outputs],
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "Result":
        """Read what `to_dict` wrote; raises RecordError with the path of what is wrong."""
        result = cls(
            models=tuple(map(ModelResult.from_fields, fields.objects("models"))),
            fits=tuple(map(FitResult.from_fields, fields.objects("fits"))),
            outputs=tuple(map(OutputFile.from_fields, fields.objects("outputs"))),
        )
        object.__setattr__(result, "_read", ReadJson.of(fields))
        return result


def _series(history: Fields, name: str) -> tuple[str, ...]:
    """A metric's values: it is there because an epoch had it."""
    values = history.texts(name)
    if not values:
        raise RecordError(f"'{history.path(name)}' holds no value")
    return values
