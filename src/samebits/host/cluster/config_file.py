"""A run's configuration as JSON: what a node reads, as it was on the machine that submitted the run."""

from pathlib import Path
from typing import Any

from samebits.core.jsonio import Fields
from samebits.core.project import CodeLayout
from samebits.core.run_config import RunConfig
from samebits.core.trace_level import Trace

_PATHS = ("script", "data", "inputs", "runs", "requirements", "lock")
_TEXTS = ("profile", "shuffle", "keep", "level", "image", "gpus", "runtime", "python")
_NUMBERS = ("seed", "threads", "checkpoint_every")
_SEVERAL = "workers"
_LISTS = ("arguments", "env", "exclude", "ignore_outputs")


def config_to_dict(spec: RunConfig) -> dict[str, Any]:
    """The configuration with absolute paths, as a node may work in another folder; a trial has none."""
    paths = {name: getattr(spec, name) for name in _PATHS}
    layout = spec.code
    return {
        **{name: None if path is None else str(path.absolute()) for name, path in paths.items()},
        **{name: getattr(spec, name) for name in (*_TEXTS, *_NUMBERS)},
        **{name: list(getattr(spec, name)) for name in _LISTS},
        **({} if spec.workers == 1 else {_SEVERAL: spec.workers}),
        "strict": spec.strict,
        "trace": spec.trace.to_dict(),
        "layout": {
            "folder": str(layout.folder.absolute()),
            "entry": layout.entry,
            "workdir": layout.workdir,
            "pythonpath": list(layout.pythonpath),
            "module": layout.module,
        },
    }


def config_from_fields(fields: Fields) -> RunConfig:
    """Read what `config_to_dict` wrote; raises RecordError for a value of another kind, InputError for a wrong one."""
    paths = {name: fields.optional(name, str) for name in _PATHS}
    layout = fields.inner("layout")
    values: dict[str, Any] = {
        **{name: None if text is None else Path(text) for name, text in paths.items()},
        **{name: fields.optional(name, str) for name in _TEXTS},
        **{name: fields.optional(name, int) for name in _NUMBERS},
        **{name: fields.texts(name) for name in _LISTS},
        "workers": fields.optional(_SEVERAL, int) or 1,
        "strict": fields.get("strict", bool),
        "trace": Trace.from_fields(fields.inner("trace")),
        "layout": CodeLayout(
            folder=Path(layout.get("folder", str)),
            entry=layout.get("entry", str),
            workdir=layout.get("workdir", str),
            pythonpath=layout.texts("pythonpath"),
            module=layout.optional("module", str),
        ),
    }
    return RunConfig(**values)
