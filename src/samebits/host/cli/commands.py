"""Every command by what one wants to do, with an example for each group."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from samebits.core.run_config import OneLineParser
from samebits.host.cli.archive_base import add_archive_base_options
from samebits.host.cli.attest import add_attest_options
from samebits.host.cli.audit import add_audit_options
from samebits.host.cli.build import add_build_options
from samebits.host.cli.challenge import add_challenge_options
from samebits.host.cli.check import add_check_options
from samebits.host.cli.cite import add_cite_options
from samebits.host.cli.cluster import add_cancel_options, add_follow_options
from samebits.host.cli.completion import add_completion_options
from samebits.host.cli.diff import add_diff_options
from samebits.host.cli.export import add_export_options
from samebits.host.cli.fetch import add_fetch_options
from samebits.host.cli.fingerprint import add_fingerprint_options
from samebits.host.cli.gc import add_gc_options
from samebits.host.cli.init import add_init_options
from samebits.host.cli.list_runs import add_list_options
from samebits.host.cli.lock import add_lock_options
from samebits.host.cli.pack import add_pack_options, add_unpack_options
from samebits.host.cli.preflight import add_preflight_options
from samebits.host.cli.rebuild import add_rebuild_options
from samebits.host.cli.report import add_report_options
from samebits.host.cli.resume import add_resume_options
from samebits.host.cli.rm import add_rm_options
from samebits.host.cli.show import add_show_options
from samebits.host.cli.sign import add_key_options, add_sign_options
from samebits.host.cli.sweep import add_sweep_options
from samebits.host.cli.train import add_train_options
from samebits.host.cli.verify import add_verify_options


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A command: its name, what it does, a call as an example, and the function that adds its arguments."""

    name: str
    summary: str
    example: str
    add_options: Callable[[OneLineParser], None]


def _command(name: str, summary: str, arguments: str, add_options: Callable[[OneLineParser], None]) -> Command:
    return Command(name=name, summary=summary, example=f"samebits {name} {arguments}".rstrip(), add_options=add_options)


GROUPS: dict[str, tuple[Command, ...]] = {
    "Set up a project": (
        _command("init", "make a project of an existing folder of scripts", "", add_init_options),
        _command("lock", "lock the packages that a project requires", "", add_lock_options),
        _command(
            "fetch",
            "get what a script takes from the network, once, and pin it",
            "train.py -- --epochs 5",
            add_fetch_options,
        ),
        _command("build", "build the image from the lock", "", add_build_options),
    ),
    "Train": (
        _command(
            "train", "train a script and record the run", "train.py --data data/ -- --epochs 5", add_train_options
        ),
        _command(
            "sweep",
            "train a script with several seeds, and summarize the runs",
            "train.py --seeds 0-9 --data data/",
            add_sweep_options,
        ),
        _command(
            "resume",
            "resume an unfinished run, with the same bits as without the interruption",
            "last --data data/",
            add_resume_options,
        ),
        _command(
            "check",
            "find what in a script makes results differ between runs",
            "train.py --run",
            add_check_options,
        ),
    ),
    "Train on a cluster (`train --on slurm`, `--on kubernetes`)": (
        _command("follow", "print what a job on a cluster prints, until it is over", "JOB", add_follow_options),
        _command("cancel", "cancel a job on a cluster", "JOB", add_cancel_options),
    ),
    "Verify and compare": (
        _command("verify", "train a run again and compare the results", "last --data data/", add_verify_options),
        _command("preflight", "report whether this host can reproduce a run", "last", add_preflight_options),
        _command(
            "challenge",
            "find where two runs diverge whose owners exchange digests alone",
            "last ours.json --against theirs.json",
            add_challenge_options,
        ),
        _command("diff", "list every difference between two runs, in inputs and results", "RUN last", add_diff_options),
        _command("audit", "check every file of a run's folder against its record", "last", add_audit_options),
    ),
    "Look at runs": (
        _command("list", "list the runs", "--since 2d --outcome finished", add_list_options),
        _command("show", "show one run, or an image", "last", add_show_options),
        _command("report", "write an HTML page of a run, of two runs, or of all", "last", add_report_options),
        _command("cite", "print what a paper must say of a run", "last", add_cite_options),
    ),
    "Send and receive runs": (
        _command("pack", "pack a run, its image and its data into one file", "last", add_pack_options),
        _command("unpack", "check a packed run, and unpack it", "FILE", add_unpack_options),
        _command(
            "export",
            "write a run for others: RO-Crate, MLflow, a model card, Croissant",
            "rocrate last",
            add_export_options,
        ),
        _command("key", "make a key to sign with", "new", add_key_options),
        _command("sign", "sign a run, and the verdict of a verification", "last --key FILE", add_sign_options),
    ),
    "Free disk space": (
        _command("rm", "remove runs", "RUN --dry-run", add_rm_options),
        _command(
            "gc",
            "list what takes space, and remove what is unused and can be made again",
            "--dry-run",
            add_gc_options,
        ),
    ),
    "Images, machines, this shell": (
        _command("rebuild", "rebuild a run's image from the run's folder and compare", "last", add_rebuild_options),
        _command("archive-base", "archive the base image for later rebuilds", "", add_archive_base_options),
        _command(
            "fingerprint", "compare this machine's arithmetic with the portable table", "", add_fingerprint_options
        ),
        _command(
            "attest",
            "train the portable model families, and add this CPU to the table",
            "examples/families",
            add_attest_options,
        ),
        _command("completion", "print what makes a shell complete commands and runs", "bash", add_completion_options),
    ),
}

COMMANDS: tuple[Command, ...] = tuple(command for group in GROUPS.values() for command in group)


def overview() -> Iterator[str]:
    """The lines of `samebits --help` that list the commands: each group with an example of its first one."""
    width = max(len(command.name) for command in COMMANDS) + 2
    for title, commands in GROUPS.items():
        yield f"{title}, such as `{commands[0].example}`:"
        yield from (f"  {command.name:<{width}}{command.summary}" for command in commands)
        yield ""
