"""The determinism settings of a run: what is asked for, before anything is read back.

`native` repeats on the same class of machine; `portable` on every CPU with the x86-64-v3 instructions, as far as the
README says. Environment settings must stand before the interpreter or a library starts; image and launchers set them,
the entrypoint reads them back. That oneDNN's default depends on the CPU is in TensorFlow's `port.cc`; that bits follow
the thread pools, OpenBLAS's threads and each library's choice of instructions was measured with TensorFlow 2.21 and
NumPy 2.4.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from samebits.core.errors import InputError, SettingError
from samebits.core.trial import Trial

NATIVE = "native"
PORTABLE = "portable"

DEFAULT_THREADS = {NATIVE: 2, PORTABLE: 1}
"""Bits follow the size of TensorFlow's thread pool, so it must not follow the machine: two, as any machine has two.
With several threads Eigen sizes its blocks by the CPU's caches, so portable has one, and takes no other number."""

PROFILES = tuple(DEFAULT_THREADS)

PORTABLE_INSTRUCTIONS = "x86-64-v3"
"""AVX2 and FMA: what every library is held to, and libm's variants with FMA need."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One environment variable, the value it must have, and why."""

    name: str
    value: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """A named set of settings; `threads` is the size of TensorFlow's intra-op and inter-op pools.

    In a trial the hash seed may be another, and settings be left out: those `without` which it is made.
    """

    name: str = NATIVE
    threads: int = DEFAULT_THREADS[NATIVE]
    device: str = "cpu"
    hash_seed: str = "0"
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in PROFILES:
            raise InputError(f"there is no profile {self.name!r}; choose one of: {', '.join(PROFILES)}")
        if not 1 <= self.threads <= 1024:
            raise InputError(f"threads must be from 1 to 1024, not {self.threads}")
        if self.portable and self.threads != 1:
            raise InputError(f"the portable profile trains with 1 thread, not {self.threads}; drop --threads")
        if self.portable and self.device == "gpu":
            raise InputError("the portable profile is for CPUs; drop --gpus, or use the native profile")

    @property
    def portable(self) -> bool:
        """Whether other CPUs are to compute the same bits."""
        return self.name == PORTABLE

    def in_trial(self, trial: Trial) -> "Profile":
        """As a trial has it."""
        return replace(self, hash_seed=trial.hash_seed, without=trial.without)

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Every environment setting, those that a run may vary last."""
        return tuple(setting for setting in self._all_settings() if self.has(setting.name))

    def has(self, setting: str) -> bool:
        """Whether a setting, an environment variable or one of `trial.IN_PROCESS`, is in force."""
        return setting not in self.without

    def _all_settings(self) -> Iterator[Setting]:
        for setting in FIXED_SETTINGS:
            yield setting if setting.name != "PYTHONHASHSEED" else replace(setting, value=self.hash_seed)
        yield from PORTABLE_SETTINGS if self.portable else NATIVE_SETTINGS
        yield from GPU_SETTINGS if self.device == "gpu" else ()
        threads = str(self.threads)
        yield Setting(name="TF_NUM_INTRAOP_THREADS", value=threads, why="bits follow the size of this pool")
        yield Setting(name="TF_NUM_INTEROP_THREADS", value=threads, why="else it follows the machine's cores")

    @property
    def variables(self) -> dict[str, str]:
        """The settings as an environment."""
        return {setting.name: setting.value for setting in self.settings}

    @property
    def unset(self) -> tuple[str, ...]:
        """The variables that must not be there, although an image has them baked in."""
        return tuple(setting.name for setting in self._all_settings() if not self.has(setting.name))

    def check(self, environment: Mapping[str, str], source: str) -> None:
        """Raise SettingError where `environment` holds another value for a setting; `source` says whose it is."""
        for setting in self.settings:
            found = environment.get(setting.name, setting.value)
            if found != setting.value:
                raise contradiction(setting, found, source, self.name)


def make_profile(name: str, threads: int | None = None, device: str = "cpu") -> Profile:
    """A profile with its own number of threads where none is given. Raises InputError for what cannot be."""
    return Profile(name=name, threads=DEFAULT_THREADS.get(name, 1) if threads is None else threads, device=device)


def contradiction(setting: Setting, found: str, source: str, profile: str) -> SettingError:
    """The error that names both sides."""
    hint = "use --threads" if "THREADS" in setting.name and "TF_" in setting.name else "remove it"
    return SettingError(
        f"{source} sets {setting.name}={found}, but the {profile} profile needs {setting.name}={setting.value}"
        f" ({setting.why}); {hint}"
    )


FIXED_SETTINGS = (
    Setting(name="PYTHONHASHSEED", value="0", why="the order of sets and of hash() follows it"),
    Setting(name="PYTHONNOUSERSITE", value="1", why="packages outside the lock must not be seen"),
    Setting(name="TF_ENABLE_ONEDNN_OPTS", value="1", why="its default depends on the CPU, and bits follow it"),
    Setting(name="OPENBLAS_NUM_THREADS", value="1", why="NumPy's matrix products follow the number of threads"),
    Setting(name="KERAS_BACKEND", value="tensorflow", why="another backend computes other bits"),
    Setting(name="LC_ALL", value="C.UTF-8", why="sorting and text decoding follow the locale"),
    Setting(name="TZ", value="UTC", why="dates follow the time zone"),
)
"""The settings that every run has; the image bakes exactly these in, which a test checks."""

NATIVE_SETTINGS = (Setting(name="ONEDNN_MAX_CPU_ISA", value="DEFAULT", why="the best instructions that the CPU has"),)
"""The settings of the native profile alone."""

PORTABLE_SETTINGS = (
    Setting(name="ONEDNN_MAX_CPU_ISA", value="AVX2", why="else oneDNN takes other kernels on other CPUs"),
    Setting(
        name="NPY_DISABLE_CPU_FEATURES",
        value="X86_V4,AVX512_ICL,AVX512_SPR",
        why="else NumPy computes otherwise with AVX-512",
    ),
    Setting(name="OPENBLAS_CORETYPE", value="Haswell", why="else OpenBLAS takes the kernels of the CPU it finds"),
)
"""The settings of the portable profile alone; those of the graph's rewriting and the exact operations come on top."""

GPU_SETTINGS = (
    Setting(name="NVIDIA_TF32_OVERRIDE", value="0", why="TF32 keeps 10 bits of a float32's 23"),
    Setting(name="CUBLAS_WORKSPACE_CONFIG", value=":4096:8", why="else cuBLAS chooses workspaces, and so orders, anew"),
    Setting(name="XLA_FLAGS", value="--xla_gpu_deterministic_ops=true", why="else XLA chooses fast orders on GPUs"),
)
"""The settings that a run on a GPU has besides; the GPU image bakes them in. cuDNN's choice is op determinism's."""
