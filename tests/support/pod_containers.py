"""The pods of an Indexed Job as containers of the real engine: what its controller and the kubelets do with a manifest.

No Kubernetes with Indexed Jobs can be built from Debian's packages. So the pods' exact commands, variables, volumes
and limits run here on a network of their own, where each pod has an address. What the API server does with the manifest
is not tested by it.
"""

import itertools
import json
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samebits.host.cluster.job_dir import JobDir
from support.fake_kubectl import Kubectl, pod

_ANNOTATION = "batch.kubernetes.io/job-completion-index"
_NOT_FINAL = {137, 143}
_LABEL = "samebits-test=pods"


def docker(*words: str) -> str:
    """What the engine's client prints."""
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


@dataclass
class PodContainer:
    """A container that is a pod."""

    name: str
    index: int
    node: str

    def state(self) -> dict[str, Any]:
        """Its state in the engine's words, with the image that it runs."""
        (found,) = json.loads(docker("inspect", self.name))
        return {**found["State"], "Image": found["Image"]}

    def described(self) -> dict[str, Any]:
        """The pod as an API server reports it."""
        state = self.state()
        runs = state["Status"] in {"running", "paused"}
        code = {"terminated": {"exitCode": state["ExitCode"]}}
        return pod(
            metadata={"name": self.name, "uid": self.name, "annotations": {_ANNOTATION: str(self.index)}},
            node=self.node,
            phase="Running" if runs else "Failed" if state["ExitCode"] else "Succeeded",
            state={"running": {}} if runs else code,
            imageID=f"docker://{state['Image']}",
        )

    def kill(self) -> None:
        """As the kernel does where memory runs out."""
        docker("kill", "--signal=KILL", self.name)


@dataclass
class Pods:
    """The pods of the one job there is. `changed` has other mounts for some indexes, by the path in the pod."""

    network: str
    kubectl: Kubectl
    changed: dict[int, Mapping[str, Path]] = field(default_factory=dict)
    found: list[PodContainer] = field(default_factory=list)
    lost: list[PodContainer] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _stopped: bool = False

    def of(self, index: int) -> PodContainer:
        """The youngest pod of an index."""
        return [one for one in self.found if one.index == index][-1]

    def lose_node(self, index: int) -> PodContainer:
        """A node without power: nothing of the pod runs, and it answers nobody. Its replacement is up to the caller."""
        one = self.of(index)
        self.lost.append(one)
        docker("network", "disconnect", "--force", self.network, one.name)
        docker("pause", one.name)
        return one

    def remove_node(self, one: PodContainer) -> None:
        """The lost node is removed from the cluster: its pods have ended, and others follow."""
        docker("rm", "--force", one.name)
        self.found.remove(one)
        self.lost.remove(one)

    @contextmanager
    def run(self, job: JobDir) -> Iterator[None]:
        """Start the pods of a job, and others where they end, until the body or the job does."""
        thread = threading.Thread(target=self._control, args=(job,))
        thread.start()
        try:
            yield
        finally:
            self._stopped = True
            thread.join()

    def _control(self, job: JobDir) -> None:
        manifest = json.loads(job.manifest.read_text())
        workers = manifest["spec"]["completions"]
        for index in range(workers):
            self._start(manifest, index)
        while not self._stopped:
            states = {index: self._state_of(index) for index in range(workers)}
            if any(code not in {None, 0, *_NOT_FINAL} for code in states.values()):
                return self._fail()
            for index, code in states.items():
                if code in _NOT_FINAL:
                    self._start(manifest, index)
            self._report()
            time.sleep(0.3)
        return None

    def _state_of(self, index: int) -> int | None:
        """The exit code of the youngest pod; None while it runs, or its node is lost."""
        pods = [one for one in self.found if one.index == index]
        if not pods:
            return 143
        if pods[-1] in self.lost:
            return None
        state = pods[-1].state()
        return None if state["Status"] in {"running", "paused"} else int(state["ExitCode"])

    def _fail(self) -> None:
        """FailJob: the other pods are ended."""
        self._report()
        docker("stop", "--time=20", *(one.name for one in self.found))

    def _report(self) -> None:
        self.kubectl.has_pods(*(one.described() for one in list(self.found)))

    def _start(self, manifest: Mapping[str, Any], index: int) -> None:
        number = next(self._numbers)
        one = PodContainer(name=f"{self.network}-{index}-{number}", index=index, node=f"n{number}")
        spec = manifest["spec"]["template"]["spec"]
        docker(*self._words(one, f"10.217.33.{10 + number}", spec))
        self.found.append(one)

    def _words(self, one: PodContainer, address: str, spec: Mapping[str, Any]) -> list[str]:
        (container,) = spec["containers"]
        own, user = container["securityContext"], spec["securityContext"]
        assert (own["readOnlyRootFilesystem"], own["capabilities"]) == (True, {"drop": ["ALL"]})
        words = ["run", "--detach", f"--name={one.name}", f"--label={_LABEL}", f"--network={self.network}"]
        words += [f"--ip={address}", f"--hostname={one.name}", f"--user={user['runAsUser']}:{user['runAsGroup']}"]
        words += ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        given = {"JOB_COMPLETION_INDEX": str(one.index), "KUBERNETES_SERVICE_HOST": "10.96.0.1"}
        fields = {"spec.nodeName": one.node, "status.podIP": address}
        for variable in container["env"]:
            path = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            given[variable["name"]] = variable["value"] if path is None else fields[path]
        words += [f"--env={name}={value}" for name, value in given.items()]
        words += [*self._mounts(one.index, spec, container), f"--volume={self._empty(one)}:/tmp"]
        first, *rest = container["command"]
        return [*words, f"--entrypoint={first}", container["image"], *rest]

    def _empty(self, one: PodContainer) -> Path:
        """What an `emptyDir` is: a folder of the node, for this pod alone."""
        folder = self.kubectl.folder / one.name
        folder.mkdir()
        folder.chmod(0o1777)
        return folder

    def _mounts(self, index: int, spec: Mapping[str, Any], container: Mapping[str, Any]) -> list[str]:
        paths = {volume["name"]: volume["hostPath"]["path"] for volume in spec["volumes"] if "hostPath" in volume}
        words = []
        for mount in container["volumeMounts"]:
            if mount["name"] in paths:
                source = self.changed.get(index, {}).get(mount["mountPath"], paths[mount["name"]])
                words.append(f"--volume={source}:{mount['mountPath']}{':ro' if mount['readOnly'] else ''}")
        return words


@contextmanager
def pod_network(kubectl: Kubectl, name: str) -> Iterator[Pods]:
    """A network for the pods of one job; they and it are removed at the end."""
    docker("network", "create", "--subnet=10.217.33.0/24", name)
    try:
        yield Pods(name, kubectl)
    finally:
        left = docker("ps", "--all", "--quiet", f"--filter=label={_LABEL}").split()
        if left:
            docker("rm", "--force", *left)
        docker("network", "rm", name)
