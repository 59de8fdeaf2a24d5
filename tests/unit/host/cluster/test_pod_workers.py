"""Several workers as the pods of an Indexed Job: how they meet, what ends them, and how the job stands."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import EXIT_TERMINATED, InputError, RecordError, Terminated
from samebits.core.jsonio import write_atomically
from samebits.core.record import FINISHED, INTERRUPTED
from samebits.core.run_config import make_config
from samebits.core.run_dir import RunDir
from samebits.host.cli.node import node_command
from samebits.host.cluster import pod_workers
from samebits.host.cluster.attendance import Attendance, Meeting, attend
from samebits.host.cluster.job_dir import JobDir, JobEnd
from samebits.host.cluster.node import Node, run_job
from samebits.host.cluster.pod_submission import prepare_pods
from samebits.host.cluster.pod_workers import RollCall, work_in_pod
from samebits.host.cluster.schedulers import state_of
from samebits.host.cluster.submission import submit
from samebits.host.cluster.worker_tasks import WorkerPlan
from samebits.host.launch import pod as pod_runtime
from samebits.host.launch.venv import ProcessRequest
from samebits.host.subprocesses import INHERITED, Streams
from support.fake_kubectl import Kubectl, kubectl, pod
from support.fake_runner import Played, played
from support.pods import IMAGE, cluster, submitted

__all__ = ["cluster", "kubectl", "played"]

CHIEF = Node(job="", name="n0", index=0, address="127.0.0.1")
WORKER = Node(job="", name="n1", index=1, address="127.0.0.2")


@dataclass
class Pods:
    """The pods of a job: threads of this process, whose runners are played."""

    job: JobDir
    joined: list[tuple[str, str]] = field(default_factory=list)
    hosts: list[list[str]] = field(default_factory=list)
    environments: list[Mapping[str, str]] = field(default_factory=list)
    ends: dict[str, int] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)
    during: Callable[[RunDir], object] = lambda _: None

    def start(self, node: Node) -> None:
        """Start the pod of a worker."""

        def work() -> None:
            self.ends[node.address] = work_in_pod(self.job, node)

        self.threads.append(threading.Thread(target=work, daemon=True))
        self.threads[-1].start()

    def wait(self) -> dict[str, int]:
        """Wait for all of them; returns their exit statuses by address."""
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()
        return self.ends


@pytest.fixture
def job(cluster: Kubectl) -> JobDir:
    """A job of two workers that was submitted."""
    assert cluster.asked() == []
    return submitted(workers=2)


@pytest.fixture
def pods(job: JobDir, played: Played, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Pods]:
    found = Pods(job)

    def run_process(request: ProcessRequest, _: Streams = INHERITED) -> int:
        words = request.command[4:]
        found.environments.append(request.environment)
        if words[0] == "--worker":
            found.joined.append((Path(words[1]).name, words[2]))
            return 0
        found.hosts.append(json.loads(RunDir(Path(words[1])).worker_hosts.read_text()))
        found.during(RunDir(Path(words[1])))
        return played.player(words, request.environment)

    monkeypatch.setattr(pod_runtime, "run_process", run_process)
    monkeypatch.setattr(pod_workers, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(pod_workers, "SCRATCH", (tmp_path / "scratch", tmp_path / "none"))
    (tmp_path / "scratch").mkdir()
    yield found
    # No thread may go on in the folder of another test.
    if not job.end.exists():
        job.write_end(JobEnd(status=0))
    found.wait()


# The manifest.


def manifest_of(job: JobDir) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(job.manifest.read_text())
    return found


def test_the_manifest_is_one_indexed_job(job: JobDir) -> None:
    found = manifest_of(job)
    spec = found["spec"]
    assert (found["apiVersion"], found["kind"]) == ("batch/v1", "Job")
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert spec["backoffLimit"] == 20, "as many as the pods of all attempts"
    (container,) = spec["template"]["spec"]["containers"]
    variables = {variable["name"]: variable.get("valueFrom") for variable in container["env"]}
    assert variables["SAMEBITS_ADDRESS"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert "JOB_COMPLETION_INDEX" not in variables, "the cluster sets it"


@pytest.mark.usefixtures("cluster")
def test_one_worker_is_no_indexed_job() -> None:
    prepared = prepare_pods(make_config({"script": Path("train.py")}))
    found = manifest_of(submit(prepared.planned, prepared.job, prepared.complete))
    assert "completionMode" not in found["spec"]
    assert "SAMEBITS_ADDRESS" not in json.dumps(found)


@pytest.mark.parametrize("version", ["v1.20.2", "v1.25.16"])
def test_a_server_without_such_jobs(cluster: Kubectl, played: Played, version: str) -> None:
    cluster.answers("version", {"serverVersion": {"gitVersion": version}})
    done = played.call("train", "train.py", "--workers", "2", "--on", "kubernetes", "--dry-run")
    assert done.status == 2
    assert done.complaint == (
        f"several workers need Kubernetes 1.26 or newer, for an Indexed Job, and this server is {version}; drop"
        " --workers, or use --on slurm"
    )
    assert not any("create" in words for words in cluster.asked())


# How they meet.


def test_the_workers_join_the_run_of_the_chief(job: JobDir, pods: Pods) -> None:
    pods.start(WORKER)
    assert run_job(job, CHIEF) == 0
    (run,) = job.attempts()
    assert pods.wait() == {WORKER.address: 0}
    assert pods.joined == [(run.path.name, "1")]
    assert pods.hosts == [["127.0.0.1", "127.0.0.2"]]
    record = run.read()
    assert (record.outcome.state, record.recipe.world_size) == (FINISHED, 2)
    # A pod that starts after the end trains nothing.
    assert work_in_pod(job, replace(WORKER, address="127.0.0.9")) == 0
    assert len(pods.joined) == 1


def test_the_index_says_which_worker_a_pod_is(job: JobDir, pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    pods.start(WORKER)
    for name, value in (("INDEX", "0"), ("ADDRESS", CHIEF.address)):
        monkeypatch.setenv({"INDEX": "JOB_COMPLETION_INDEX", "ADDRESS": "SAMEBITS_ADDRESS"}[name], value)
    assert node_command(str(job.path)) == 0
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    assert node_command(str(job.path)) == 0
    assert (len(job.attempts()), len(pods.joined)) == (1, 1)


def test_a_lost_worker_starts_the_whole_again(job: JobDir, pods: Pods, played: Played) -> None:
    """The chief's pod ends without an end of the job. The next one resumes its run, with whoever is there."""
    played.player.dies = (0, 3)
    pods.start(WORKER)
    assert run_job(job, CHIEF) == EXIT_TERMINATED
    assert job.read_end() is None
    played.player.dies = None
    played.player.trained.clear()
    # Another pod has the worker's index. The one before may still be there.
    again = replace(WORKER, address="127.0.0.7", name="n3")
    assert run_job_with(pods, again, replace(CHIEF, address="127.0.0.8")) == 0
    first, second = job.attempts()
    assert [run.read().outcome.state for run in (first, second)] == [INTERRUPTED, FINISHED]
    # Nobody plays what the worker keeps, so nothing can be taken over.
    assert len(played.player.trained) == 4
    resumes = second.read().origin.resumes
    assert resumes is not None
    assert resumes.id == first.path.name
    assert pods.hosts[1][0] == "127.0.0.8"
    assert (second.path.name, "1") in pods.joined
    assert set(pods.wait().values()) == {0}


def run_job_with(pods: Pods, worker: Node, chief: Node) -> int:
    pods.start(worker)
    return run_job(pods.job, chief)


def test_a_worker_that_stays_joins_the_next_attempt(job: JobDir, pods: Pods, played: Played) -> None:
    played.player.dies = (0, 3)
    pods.start(WORKER)
    assert run_job(job, CHIEF) == EXIT_TERMINATED
    played.player.dies = None
    assert run_job(job, CHIEF) == 0
    assert pods.wait() == {WORKER.address: 0}
    assert [run for run, _ in pods.joined] == [run.path.name for run in job.attempts()]


def test_what_an_attempt_leaves_is_not_seen_by_the_next(
    job: JobDir, pods: Pods, played: Played, tmp_path: Path
) -> None:
    played.player.dies = (0, 3)
    pods.start(WORKER)
    assert run_job(job, CHIEF) == EXIT_TERMINATED
    (tmp_path / "scratch" / "cache.npy").touch()
    calls(job, "x" * 32)
    assert pods.wait() == {WORKER.address: EXIT_TERMINATED}


def test_lost_workers_end_the_job_at_last(job: JobDir, pods: Pods, played: Played) -> None:
    played.player.dies = (0, 1)
    pods.start(WORKER)
    statuses = [run_job(job, CHIEF) for _ in range(10)]
    assert statuses == [EXIT_TERMINATED] * 9 + [2]
    end = job.read_end()
    assert end is not None
    assert "killed by SIGKILL" in str(end.message)
    assert pods.wait() == {WORKER.address: 2}


def test_a_cancelled_job_does_not_start_again(job: JobDir, pods: Pods, played: Played) -> None:
    played.player.dies = (0, 1)
    job.cancelled.touch()
    pods.start(WORKER)
    assert run_job(job, CHIEF) == 2
    assert job.read_end() is not None


def test_a_worker_that_would_train_something_else(job: JobDir, pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job ends with its reason, and nothing was begun."""
    monkeypatch.setattr(WorkerPlan, "of", refuse)
    pods.start(WORKER)
    reason = "worker 1 of 2 cannot start: the node n1 makes another recipe than was submitted: data.tree"
    with pytest.raises(InputError, match=f"^{reason}$"):
        run_job(job, CHIEF)
    assert job.read_end() == JobEnd(status=2, message=reason)
    assert pods.wait() == {WORKER.address: 2}
    assert job.attempts() == []


def refuse(_: JobDir, node: str) -> None:
    raise InputError(f"the node {node} makes another recipe than was submitted: data.tree")


def test_each_node_makes_the_recipe(job: JobDir, pods: Pods, played: Played) -> None:
    data = played.project.folder / "data" / "numbers.csv"
    text = data.read_bytes()

    def spoil(_: object) -> None:
        data.write_bytes(b"1\n")

    roll = RollCall(job, 2, CHIEF)
    assert job.call.stat().st_mode & 0o077 == 0  # it has the token of the workers
    spoil(roll)
    pods.start(WORKER)
    wait_for(job.answer(1).exists)
    assert "makes another recipe than was submitted: data.tree" in job.answer(1).read_text()
    data.write_bytes(text)
    job.write_end(JobEnd(status=0))
    pods.wait()


def wait_for(found: Callable[[], object]) -> None:
    for _ in range(2000):
        if found():
            return
        threading.Event().wait(0.005)
    raise AssertionError


def calls(job: JobDir, token: str, run: str | None = None) -> Attendance:
    """What a chief's pod would write, which listens."""
    attendance = Attendance(CHIEF.address, token)
    job.workers.mkdir(exist_ok=True)
    where = {"host": CHIEF.address, "port": attendance.meeting.port}
    write_atomically(job.call, json.dumps({"token": token, "run": run, **where}).encode())
    return attendance


def test_an_answer_to_an_earlier_call_is_none(job: JobDir, pods: Pods) -> None:
    """A pod that is gone has left it."""
    job.workers.mkdir()
    job.answer(1).write_text(json.dumps({"token": "old", "node": "n9", "address": "127.0.0.9"}))
    pods.start(WORKER)
    assert run_job(job, CHIEF) == 0
    assert pods.hosts == [["127.0.0.1", "127.0.0.2"]]
    pods.wait()


def answer_of(job: JobDir, node: Node, *, dies: bool = False) -> socket.socket:
    """A pod that has answered, and does nothing more; one that `dies` is gone when its answer is read."""
    wait_for(job.call.exists)
    call = json.loads(job.call.read_text())
    line = attend(Meeting(host=call["host"], port=call["port"]), call["token"], 1, node.address)
    if dies:
        line.close()
        threading.Event().wait(0.2)
    values = {"token": call["token"], "node": node.name, "address": node.address}
    write_atomically(job.answer(1), json.dumps(values).encode())
    return line


def leading(job: JobDir) -> tuple[threading.Thread, list[int]]:
    """The chief's pod, in a thread; its exit status."""
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(run_job(job, CHIEF)), daemon=True)
    thread.start()
    return thread, statuses


def test_an_answer_counts_while_its_pod_is_there(job: JobDir, pods: Pods) -> None:
    """One that dies before the run begins costs nothing but the wait for the next one."""
    thread, statuses = leading(job)
    gone = replace(WORKER, address="127.0.0.9")
    answer_of(job, gone, dies=True)
    threading.Event().wait(0.2)
    assert job.attempts() == []
    pods.start(WORKER)
    thread.join(20)
    assert statuses == [0]
    assert pods.hosts == [[CHIEF.address, WORKER.address]]
    assert pods.wait() == {WORKER.address: 0}


def test_a_pod_that_is_gone_before_it_joins(job: JobDir, pods: Pods) -> None:
    """The run's process waits for it, and learns so."""
    found: list[str] = []
    lines: list[socket.socket] = []

    def die(run: RunDir) -> None:
        lines[0].close()
        lost = run.of_worker(1).lost
        wait_for(lost.exists)
        found.append(lost.read_text())

    pods.during = die
    thread, statuses = leading(job)
    lines.append(answer_of(job, WORKER))
    thread.join(20)
    assert found == ["its pod is gone"]
    assert statuses == [0], "the played run waits for nobody"


@pytest.mark.parametrize("how", ["status", "error"])
def test_a_process_that_ends_before_it_joins(
    job: JobDir, pods: Pods, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The chief does not wait for it, and says why."""

    def train(_: WorkerPlan, run: RunDir, index: int) -> int:
        assert (run.path.parent, index) == (job.runs, 1)
        if how == "error":
            raise InputError("no")
        return 7

    def wait(run: RunDir) -> None:
        failure = run.of_worker(1).failure
        wait_for(failure.exists)
        assert failure.read_text() == ("no" if how == "error" else "its process ended with status 7")

    monkeypatch.setattr(WorkerPlan, "train", train)
    pods.during = wait
    pods.start(WORKER)
    assert run_job(job, CHIEF) == 0
    pods.wait()


def test_a_chief_that_is_gone_is_not_answered(job: JobDir, pods: Pods, capsys: pytest.CaptureFixture[str]) -> None:
    """It has left its call. The next one is answered."""
    calls(job, "a" * 32).close()
    pods.start(WORKER)
    threading.Event().wait(0.2)
    assert not job.answer(1).exists()
    assert run_job(job, CHIEF) == 0
    assert pods.wait() == {WORKER.address: 0}
    assert capsys.readouterr().err.count("the chief's pod at 127.0.0.1 does not answer") == 1


def test_a_run_that_expects_another_pod_is_not_joined(job: JobDir, pods: Pods) -> None:
    """Two pods of one index: the chief took the other one."""
    run = RunDir(job.runs / "20260101T000000Z-x")
    run.workers.mkdir(parents=True)
    run.worker_hosts.write_text('["127.0.0.1", "127.0.0.9"]')
    calls(job, "a" * 32)
    pods.start(WORKER)
    wait_for(job.answer(1).exists)
    calls(job, "a" * 32, run.path.name)
    threading.Event().wait(0.1)
    job.write_end(JobEnd(status=0))
    pods.wait()
    assert pods.joined == []


def test_a_run_that_began_before_the_pod_is_not_joined(job: JobDir, pods: Pods) -> None:
    calls(job, "a" * 32, "20260101T000000Z-x")
    pods.start(WORKER)
    threading.Event().wait(0.1)
    job.write_end(JobEnd(status=0))
    assert pods.wait() == {WORKER.address: 0}
    assert (pods.joined, job.answer(1).exists()) == ([], False)


@pytest.mark.parametrize("what", ["call", "end"])
def test_a_second_chief_ends_the_first(job: JobDir, pods: Pods, what: str) -> None:
    """A cluster that has lost a node may start one while the other still waits for workers."""
    statuses: list[BaseException] = []

    def lead() -> None:
        try:
            run_job(job, CHIEF)
        except Terminated as error:
            statuses.append(error)

    first = threading.Thread(target=lead, daemon=True)
    first.start()
    wait_for(job.call.exists)
    if what == "call":
        RollCall(job, 2, replace(CHIEF, address="127.0.0.5"))
    else:
        job.write_end(JobEnd(status=0))
    first.join(20)
    assert len(statuses) == 1
    assert job.attempts() == []
    assert job.read_end() == (None if what == "call" else JobEnd(status=0))
    assert pods.joined == []


@pytest.mark.parametrize("address", ["", "fd00::1", "n1", "127.0.0.1:1"])
def test_a_pod_without_a_usable_address(job: JobDir, pods: Pods, address: str) -> None:
    said = f"workers need pods with IPv4 addresses, and one has {address!r}"
    for lead, node in ((run_job, CHIEF), (work_in_pod, WORKER)):
        with pytest.raises(InputError) as found:
            lead(pods.job, replace(node, address=address))
        assert str(found.value) == said
        job.end.unlink(missing_ok=True)


def test_a_pod_without_an_index(job: JobDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them would be a chief."""
    monkeypatch.setattr(RollCall, "_wait", lambda _: pytest.fail("it leads"))
    with pytest.raises(InputError, match="this pod has no index: the cluster made no Indexed Job of several workers"):
        run_job(job, replace(CHIEF, index=None))
    assert job.attempts() == []
    job.end.unlink()
    with pytest.raises(InputError, match="the job has no worker 2"):
        work_in_pod(job, replace(WORKER, index=2))


@pytest.mark.parametrize("text", ["[]", "{}", '{"token": 1}', '{"token": "x", "run": "../x"}', "no"])
def test_a_call_that_is_none(job: JobDir, text: str) -> None:
    job.workers.mkdir()
    job.call.write_text(text)
    with pytest.raises(RecordError, match=r"call\.json"):
        work_in_pod(job, WORKER)


def test_the_index_stays_with_the_launcher(job: JobDir, pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is samebits's own variable. The index is withheld by the image's entrypoint, as all unknown ones."""
    monkeypatch.setenv("SAMEBITS_ADDRESS", "127.0.0.1")
    pods.start(WORKER)
    assert run_job(job, CHIEF) == 0
    pods.wait()
    assert len(pods.environments) == 2
    for environment in pods.environments:
        assert {name for name in environment if name.startswith("SAMEBITS_")} == {"SAMEBITS_DATA"}


# How the job stands.

RUNS = {"phase": "Running", "state": {"running": {}}, "imageID": f"docker-pullable://samebits@{IMAGE}"}
CREATES = {"state": {"waiting": {"reason": "ContainerCreating"}}}
WAITS = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}}
ENDED = {"phase": "Failed", "state": {"terminated": {"exitCode": 143}}}
OUT = {"deletionTimestamp": "2026-01-01T00:05:30Z"}


def of(index: int, node: str, status: Mapping[str, Any], metadata: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """A pod of an index."""
    annotations = {"annotations": {"batch.kubernetes.io/job-completion-index": str(index)}}
    named = {"name": f"p{index}-{node}", "uid": f"{index}-{node}", **annotations, **metadata}
    return pod(metadata=named, node=node, **status)


@pytest.mark.parametrize(
    ("found", "shown", "hopeless"),
    [
        ([], "queued (worker 0: it waits for a pod)", False),
        ([of(0, "n1", RUNS)], "queued (worker 1: it waits for a pod)", False),
        ([of(0, "n1", RUNS), of(1, "n2", CREATES)], "queued (worker 1: its container is being made on n2)", False),
        ([of(0, "n1", CREATES), of(1, "n2", WAITS)], "queued (worker 1: ImagePullBackOff: Back-off on n2)", True),
        ([of(1, "n2", RUNS), of(0, "n1", RUNS)], "running (n1, n2)", False),
        ([of(0, "n1", RUNS), of(1, "n2", ENDED)], "queued (worker 1: it waits for a pod)", False),
        ([of(0, "n1", RUNS), of(1, "n2", ENDED), of(1, "n3", RUNS)], "running (n1, n3)", False),
        # A node that is lost confirms no end.
        (
            [of(0, "n1", RUNS), of(1, "n2", RUNS, metadata=OUT)],
            "queued (worker 1: its pod on n2 was to end by 2026-01-01T00:05:30Z; another one follows its end)",
            False,
        ),
        ([of(0, "n1", RUNS), of(1, "n2", RUNS, metadata=OUT), of(1, "n3", RUNS)], "running (n1, n3)", False),
    ],
)
def test_states(job: JobDir, cluster: Kubectl, found: list[Any], shown: str, hopeless: bool) -> None:
    for number, one in enumerate(found):
        one["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:0{number}Z"
    cluster.has_pods(*found)
    state = state_of(job, job.read())
    assert (str(state), state.hopeless, state.over) == (shown, hopeless, False)


def test_another_image_in_one_pod(job: JobDir, cluster: Kubectl) -> None:
    """Whichever worker it is of, the job counts as failed."""
    other = {**RUNS, "imageID": f"docker://{Digest.of_bytes(b'other')}"}
    job.write_end(JobEnd(status=0))
    cluster.has_pods(of(0, "n1", RUNS), of(1, "n2", other))
    state = state_of(job, job.read())
    assert (state.kind, state.detail.partition(" ran ")[0]) == ("failed", "the pod p1-n2")
    assert os.path.exists(job.pods)


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (66, "failed (its node does not see "),
        (139, "lost (Kubernetes says PodFailurePolicy, exit code 139, and it left no end)"),
    ],
)
def test_the_pod_that_ended_the_job(job: JobDir, cluster: Kubectl, code: int, shown: str) -> None:
    """The others were ended for it, and later."""
    condition = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}
    cluster.answers("job", {"metadata": {"uid": "1-2"}, "status": {"conditions": [condition]}})
    failed = {"phase": "Failed", "state": {"terminated": {"exitCode": code}}}
    cluster.has_pods(of(0, "n0", failed), of(1, "n1", ENDED))
    assert str(state_of(job, job.read())).startswith(shown)
