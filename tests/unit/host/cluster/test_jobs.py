"""Jobs of a cluster without one: what is submitted, and what a node does with it in each attempt."""

import json
import os
import signal
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from samebits.core.errors import InputError, RecordError, Terminated
from samebits.core.jsonio import Fields
from samebits.core.liveness import Host, RunProcess
from samebits.core.record import FINISHED, INTERRUPTED, RUNNING, Outcome, Record, write_record
from samebits.core.run_config import RunConfig, make_config
from samebits.core.run_dir import RunDir
from samebits.core.timings import Timings
from samebits.core.trace_level import Trace
from samebits.host.cluster import slurm
from samebits.host.cluster.config_file import config_from_fields, config_to_dict
from samebits.host.cluster.job_dir import JobDir, why_in_vain
from samebits.host.cluster.node import Node, run_job
from samebits.host.cluster.slurm import JobStatus
from samebits.host.cluster.slurm_jobs import job_script
from samebits.host.cluster.submission import prepare, site_flags, submit
from support.fake_runner import Played, played

__all__ = ["played"]
NODE = Node(job="7", name="n1")


@pytest.fixture
def job(played: Played, monkeypatch: pytest.MonkeyPatch) -> JobDir:
    """A job that was submitted: only Slurm is not asked."""
    assert played.runs() == 0
    monkeypatch.setattr(slurm, "submit", lambda *_: "7")
    spec = make_config({"script": Path("train.py"), "data": Path("data"), "runtime": "venv", "seed": 3})
    return submit(*prepare(spec, ()))


def outcomes(job: JobDir) -> list[str]:
    return [run.read().outcome.state for run in job.attempts()]


@pytest.mark.usefixtures("played")
def test_a_configuration_survives() -> None:
    spec = make_config(
        {
            "script": Path("train.py"),
            "data": Path("data"),
            "seed": 7,
            "threads": 3,
            "shuffle": "per-epoch",
            "trace": "step",
            "keep": "all",
            "checkpoint_every": 5,
            "level": "metrics",
            "exclude": ["*.txt"],
            "ignore_outputs": ["a"],
            "env": ["A=b c"],
            "arguments": ("--x", "y"),
            "strict": True,
            "runtime": "venv",
        }
    )
    read = config_from_fields(Fields(json.loads(json.dumps(config_to_dict(spec)))))
    layout = replace(spec.code, folder=spec.code.folder.absolute())
    absolute = {name: getattr(spec, name).absolute() for name in ("script", "data", "runs")}
    assert read == replace(spec, layout=layout, **absolute)
    # A field that is added later must be carried, too. A job refuses redacted values and several workers. A node reads
    # all data.
    left = {"trial", "redacted", "workers", "data_cache"}
    assert {item.name for item in fields(RunConfig)} == {*config_to_dict(spec), *left}
    assert read.trace == Trace(level="step")


def test_a_node_trains_it(job: JobDir, played: Played) -> None:
    assert run_job(job, NODE) == 0
    end, record = job.read_end(), job.attempts()[0].read()
    assert end is not None
    assert (end.status, end.run, record.outcome.state) == (0, record.id, FINISHED)
    assert record.recipe.digest == job.read().recipe.digest
    assert played.train("--seed", "3").read().recipe.digest == record.recipe.digest
    # A job that is requeued after its end trains nothing.
    played.player.trained.clear()
    assert run_job(job, NODE) == 0
    assert (played.player.trained, len(job.attempts())) == ([], 1)


def test_code_that_was_edited_while_the_job_waited(job: JobDir, played: Played) -> None:
    played.project.write("raise SystemExit('edited')\n")
    assert run_job(job, NODE) == 0
    assert "edited" not in (job.attempts()[0].code / "train.py").read_text()


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ("data/numbers.csv", "data.tree"),
        ("{job}/code/train.py", "code.tree"),
    ],
)
def test_a_node_that_makes_another_recipe(job: JobDir, played: Played, change: str, part: str) -> None:
    (played.project.folder / change.replace("{job}", str(job.path))).write_text("1\n")
    with pytest.raises(InputError) as error:
        run_job(job, NODE)
    assert str(error.value) == f"the node n1 makes another recipe than was submitted: {part}; nothing was trained"
    end = job.read_end()
    assert end is not None
    assert (end.status, end.message, job.attempts()) == (2, str(error.value), [])


@pytest.mark.usefixtures("job")
def test_a_node_without_avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_config({"script": Path("train.py"), "runtime": "venv", "profile": "portable"})
    portable = submit(*prepare(spec, ()))
    monkeypatch.setattr("samebits.core.run_setup.instruction_set", lambda: "x86-64-v2")
    with pytest.raises(InputError, match="the portable profile needs a CPU with x86-64-v3, but this one has x86-64-v2"):
        run_job(portable, NODE)


def test_an_interrupted_attempt_is_resumed(job: JobDir, played: Played) -> None:
    played.player.dies = (0, 3)
    assert run_job(job, NODE) == 2
    played.player.dies = None
    played.player.trained.clear()
    assert run_job(job, NODE) == 0
    assert played.player.trained == [(0, 2), (0, 3)]
    assert outcomes(job) == [INTERRUPTED, FINISHED]
    first, last = job.attempts()
    assert (first.read().origin.attempts, last.read().origin.attempts) == ((), (first.path.name,))
    assert job.attempts()[1].read().result_digest == played.train("--seed", "3").read().result_digest


def test_a_script_that_failed_is_not_repeated(job: JobDir, played: Played) -> None:
    played.player.fails = (0, 1)
    assert run_job(job, NODE) == 1
    played.player.trained.clear()
    assert run_job(job, NODE) == 1
    assert (played.player.trained, outcomes(job)) == ([], ["failed"])


def begun(run: RunDir, host: Host | None) -> None:
    """The run as it was before its end, on another machine or in a process that lives."""
    record: Record = run.read()
    run.record.unlink()
    changed = replace(
        record, outcome=Outcome(state=RUNNING), result=None, ledger=None, files=None, host=host, timings=Timings()
    )
    write_record(run.record, changed)


def test_an_attempt_that_still_runs_is_left_alone(job: JobDir) -> None:
    """Its node was declared dead, and is not."""
    assert run_job(job, NODE) == 0
    first = job.attempts()[0]
    begun(first, Host.this())
    before = {path: path.read_bytes() for path in first.path.rglob("*") if path.is_file()}
    assert run_job(job, NODE) == 0
    assert {path: path.read_bytes() for path in first.path.rglob("*") if path.is_file()} == before
    origin = job.attempts()[1].read().origin
    assert (origin.resumes, origin.attempts) == (None, (first.path.name,))
    assert outcomes(job) == [RUNNING, FINISHED]


def test_an_attempt_that_cannot_be_seen_is_resumed(job: JobDir, played: Played) -> None:
    """Slurm's requeue declares it ended."""
    played.player.dies = (0, 3)
    run_job(job, NODE)
    process = RunProcess.this()
    assert process is not None
    begun(job.attempts()[0], Host(machine=None, launcher=replace(process, boot="another")))
    played.player.dies = None
    assert run_job(job, NODE) == 0
    resumes = job.attempts()[1].read().origin.resumes
    assert resumes is not None
    assert resumes.id == job.attempts()[0].path.name


def test_attempts_that_disagree(job: JobDir, played: Played) -> None:
    assert run_job(job, NODE) == 0
    first = job.attempts()[0]
    finished = first.read()
    begun(first, Host.this())
    played.player.noise[0, 1] = b"noise"
    original = played.player.__class__.__call__

    def both(*arguments: object, **options: object) -> int:
        status: int = original(played.player, *arguments, **options)  # type: ignore[arg-type]
        # The first attempt finishes meanwhile.
        first.record.unlink()
        write_record(first.record, finished)
        return status

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samebits.host.launch.venv.run_in_venv", both)
        assert run_job(job, NODE) == 1
    end, second = job.read_end(), job.attempts()[1]
    assert end is not None
    assert end.message == (
        f"the attempts {second.path.name} and {first.path.name} have one recipe and two results; rely on neither"
    )


def test_an_attempt_that_ends_after_a_later_one(job: JobDir, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its node was declared dead. The end of the job is that of the later one."""
    original = played.player.__class__.__call__

    def late(*arguments: object, **options: object) -> int:
        monkeypatch.setattr("samebits.host.launch.venv.run_in_venv", played.player)
        begun(job.attempts()[0], Host.this())
        assert run_job(job, replace(NODE, name="n2", restarts=1)) == 0
        played.player.fails = (0, 1)
        status: int = original(played.player, *arguments, **options)  # type: ignore[arg-type]
        return status

    monkeypatch.setattr("samebits.host.launch.venv.run_in_venv", late)
    assert run_job(job, NODE) == 1
    assert outcomes(job) == ["failed", FINISHED]
    end = job.read_end()
    assert end is not None
    assert (end.status, end.run) == (0, job.attempts()[1].path.name)


@pytest.mark.parametrize(
    ("state", "cancelled", "restarts", "requeued"),
    [
        ("RUNNING", False, 0, 1),
        ("COMPLETING", False, 0, 0),
        ("RUNNING", True, 0, 0),
        # Another attempt is running, as this one's node was declared dead.
        ("RUNNING", False, 1, 0),
    ],
)
def test_requeued_after_sigterm(
    job: JobDir,
    played: Played,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    cancelled: bool,
    restarts: int,
    requeued: int,
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(slurm, "active", lambda _: JobStatus(state=state))
    monkeypatch.setattr(slurm, "restarts", lambda _: restarts)
    monkeypatch.setattr(slurm, "requeue", asked.append)
    before = signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(Terminated()))
    monkeypatch.setattr(played.player, "_keep", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    if cancelled:
        job.cancelled.touch()
    try:
        with pytest.raises(Terminated):
            run_job(job, NODE)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert asked == ["7"] * requeued
    assert (job.read_end(), outcomes(job)) == (None, [INTERRUPTED])


def test_a_time_limit_that_is_too_short(job: JobDir, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is not started again for ever."""
    asked: list[str] = []
    monkeypatch.setattr(slurm, "active", lambda _: JobStatus(state="RUNNING"))
    monkeypatch.setattr(slurm, "restarts", lambda _: len(asked))
    monkeypatch.setattr(slurm, "requeue", asked.append)
    before = signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(Terminated()))
    keep = played.player._keep
    limit = iter([1, 2, 0, 0, 0])

    def stop(*arguments: Any) -> None:
        if left["epochs"] == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        left["epochs"] -= 1
        keep(*arguments)

    left: dict[str, int] = {}
    monkeypatch.setattr(played.player, "_keep", stop)
    try:
        for attempt, epochs in enumerate(limit):
            left["epochs"] = epochs
            with pytest.raises(Terminated):
                run_job(job, replace(NODE, restarts=attempt))
            if (end := job.read_end()) is not None:
                break
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(asked) == 3
    assert len(job.attempts()) == 4
    assert end is not None
    assert (end.status, end.message) == (2, why_in_vain(job))
    assert str(end.message).startswith("2 attempts in a row got no further than the one before, so the job is not")


def test_the_script_keeps_the_submitters_environment_out(job: JobDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("SAMEBITS_BASE", "a 'base'; rm -rf /")
    script = job_script(job, "docker")
    assert "SECRET" not in script
    assert "env -i " in script
    assert "SAMEBITS_BASE='a '\"'\"'base'\"'\"'; rm -rf /'" in script
    assert "#SBATCH --export=NIL\n" in script


@pytest.mark.parametrize(
    ("runtime", "found"),
    [("venv", ""), ("docker", "D"), ("podman", "P"), ("apptainer", "A"), ("container", "DPA")],
)
def test_a_node_gets_what_finds_its_engine(
    job: JobDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, found: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///docker")
    monkeypatch.setenv("CONTAINERS_CONF", "/containers.conf")
    # As a module of the site does it.
    site = tmp_path / "site's bin"
    site.mkdir()
    (site / "apptainer").touch(0o755)
    monkeypatch.setenv("PATH", f"{site}:/usr/bin")
    script = job_script(job, runtime)
    parts = {"D": "DOCKER_HOST=unix:///docker", "P": "CONTAINERS_CONF=/containers.conf", "A": "site'\"'\"'s bin' LANG="}
    assert "".join(part for part, text in parts.items() if text in script) == found
    assert " PATH=/usr/local/sbin:" in script.replace("'", "")


@pytest.mark.parametrize(
    ("folder", "written"),
    [
        ("/runs/a", "--output=/runs/a/log.txt"),
        ("/r/50% of it's", '"--output=/r/50%% of it\'s/log.txt"'),
        ('/r/a"b#c', '"--output=/r/a\\"b#c/log.txt"'),
    ],
)
def test_the_name_of_a_folder_as_sbatch_reads_it(folder: str, written: str) -> None:
    assert f"\n#SBATCH {written}\n#SBATCH --open-mode=append\n" in job_script(JobDir(Path(folder)), "venv")


@pytest.mark.parametrize("folder", ["/a\\b", "/a\n#SBATCH --wrap=x", "/a\tb"])
def test_a_folder_that_slurm_cannot_print_to(folder: str) -> None:
    with pytest.raises(InputError, match="Slurm cannot print to "):
        job_script(JobDir(Path(folder)), "venv")


@pytest.mark.parametrize("number", ["--me", "", "7 8", "7_", "7\n", "\N{ARABIC-INDIC DIGIT SEVEN}"])
def test_a_number_that_is_an_option(job: JobDir, number: str) -> None:
    for good in ("7", "7_3"):
        job.write(replace(job.read(), number=good))
        assert job.read().number == good
    job.write(replace(job.read(), number=number))
    with pytest.raises(RecordError, match="is no number of a job"):
        job.read()


DRY_RUN = ("train", "train.py", "--runtime", "venv", "--on", "slurm", "--dry-run")


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of Slurm's, which notes its words and the script."""
    program = tmp_path / "sbatch"
    program.write_text(
        f'#!/bin/sh\necho "$*" >{tmp_path}/words\nfor script; do :; done\ncp "$script" {tmp_path}/script\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return program


def test_dry_run(played: Played, sbatch: Path) -> None:
    done = played.call(*DRY_RUN, "--sbatch", "-p 'a b' --time=1")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[:2] == ["# sbatch --parsable --export=NIL -p 'a b' --time=1 batch.sh", "#!/bin/bash"]
    assert not (played.project.runs / "jobs").exists()
    # What is printed is what Slurm was asked about.
    words = sbatch.with_name("words").read_text().split()
    assert words[:6] == ["--parsable", "--export=NIL", "--test-only", "-p", "a", "b"]
    assert sbatch.with_name("script").read_text().splitlines() == lines[1:]
    kept, taken = done.err.splitlines()[-2:]
    assert kept.startswith(
        "samebits: nothing was submitted, and nothing is kept: the script names the folder runs/jobs/job-"
    )
    assert kept.partition("runs/jobs/")[2].partition(",")[0] in done.out
    assert taken == "samebits: Slurm would take the job"


def test_dry_run_of_several_workers(played: Played, sbatch: Path) -> None:
    """Both scripts are shown."""
    assert sbatch.exists()
    done = played.call(*DRY_RUN, "--workers", "2")
    assert done.status == 0, done.err
    titles = [line for line in done.out.splitlines() if line.startswith(("# sbatch", "# worker"))]
    assert titles == ["# sbatch --parsable --export=NIL batch.sh", "# worker.sh, for each worker but the first"]
    assert done.out.count("#!/bin/bash") == 2


def test_dry_run_that_slurm_refuses(played: Played, sbatch: Path) -> None:
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: x' >&2\nexit 1\n")
    done = played.call(*DRY_RUN, "--sbatch=-p x")
    assert done.status == 2
    assert done.err.splitlines()[-1] == f"samebits: Slurm refuses the job: invalid partition specified: x{_ADVICE}"
    assert done.out.startswith("# sbatch "), "it can be looked at all the same"


def test_dry_run_without_slurm(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = played.call(*DRY_RUN)
    assert done.status == 0, done.err
    assert done.err.splitlines()[-1] == "samebits: not checked by Slurm: there is no sbatch here"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--on", "pbs"], "--on takes slurm or kubernetes, not 'pbs'"),
        (["--dry-run"], "--sbatch and --dry-run are for a cluster; add --on slurm or --on kubernetes"),
        (["--sbatch", "-p x"], "--sbatch and --dry-run are for a cluster; add --on slurm"),
        (
            ["--on", "slurm", "--sbatch", "'"],
            '--sbatch "\'" cannot be read: No closing quotation; quote it as a shell would',
        ),
        (["--on", "slurm", "--sbatch=--export=ALL"], "the flag --export=ALL of sbatch is set by samebits; remove it"),
        (["--on", "slurm", "--sbatch=-o x"], "the flag -o of sbatch is set by samebits; remove it"),
    ],
)
def test_bad_options(played: Played, options: list[str], complaint: str) -> None:
    done = played.call("train", "train.py", "--runtime", "venv", *options)
    assert (done.status, done.complaint) == (2, complaint)


_ADVICE = "; change --sbatch, or [on.slurm] in samebits.toml"
_FAILED = "sbatch: error: Batch job submission failed: "
_NOWHERE = f"sbatch: error: invalid partition specified: nowhere\n{_FAILED}Invalid partition name specified"
_SILENT = "Unable to contact slurm controller (connect failure)"


@pytest.mark.parametrize(
    ("printed", "complaint"),
    [
        (_NOWHERE, f"Slurm refuses the job: invalid partition specified: nowhere{_ADVICE}"),
        (f"sbatch: warning: x\n{_NOWHERE}", f"Slurm refuses the job: invalid partition specified: nowhere{_ADVICE}"),
        (
            f"{_FAILED}Requested time limit is invalid",
            f"Slurm refuses the job: Requested time limit is invalid{_ADVICE}",
        ),
        ("sbatch: unrecognized option '--x'\nTry --help", f"Slurm refuses the job: unrecognized option '--x'{_ADVICE}"),
        (f"{_FAILED}{_SILENT}", f"Slurm does not answer: {_SILENT}; try again later, or ask the site"),
        ("", "submitting the job failed with status 1"),
    ],
)
def test_what_slurm_refuses(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, complaint: str
) -> None:
    (tmp_path / "printed").write_text(printed)
    (tmp_path / "sbatch").write_text(f"#!/bin/sh\ncat {tmp_path}/printed >&2; exit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    done = played.call("train", "train.py", "--runtime", "venv", "--on", "slurm")
    assert (done.status, done.complaint) == (2, complaint)


def test_without_slurm(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = played.call("train", "train.py", "--runtime", "venv", "--on", "slurm")
    assert (done.status, done.complaint) == (
        2, "Slurm is not installed here: there is no sbatch; submit from a machine of the cluster"
    )  # fmt: skip
    assert list((played.project.runs / "jobs").iterdir()) == []


def test_flags_of_a_project(played: Played) -> None:
    config = played.project.folder / "samebits.toml"
    config.write_text('seed = 5\n[on.slurm]\npartition = "gpu"\ntime = 60\n')
    spec = make_config({"script": Path("train.py")})
    assert spec.seed == 5
    assert site_flags(spec, "--mem=1G") == ("--partition=gpu", "--time=60", "--mem=1G")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            '[on.slurm]\noutput = "/etc/x"\n',
            "'on.slurm.output' is not for a project to choose; use --sbatch",
        ),
        ("[on.slurm]\ntime = true\n", "'on.slurm.time' must be text or a number, not True"),
        ("on = 3\n", "'on' must be dict, not 3"),
    ],
)
def test_bad_flags_of_a_project(played: Played, text: str, complaint: str) -> None:
    (played.project.folder / "samebits.toml").write_text(text)
    done = played.call(*DRY_RUN)
    assert (done.status, done.complaint) == (2, f"samebits.toml: {complaint}")


def test_names_of_jobs(played: Played) -> None:
    assert played.call("cancel", "last").complaint == (
        "last is not a job: its name begins with job-; `samebits list --jobs` shows all"
    )
    assert (
        played.call("show", "job-x").complaint == "there is no job job-x in runs/jobs; `samebits list --jobs` shows all"
    )
