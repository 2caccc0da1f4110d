"""Ending the operator as a crash would: SIGKILL, no farewell, and a new one that must find its way.

On the local cluster the process is found by its pod's uid in the cgroup names; elsewhere the pod is deleted by force.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.harness.installation import OPERATOR_NAMESPACE, RELEASE
from tests.e2e.harness.waiting import wait_for

if TYPE_CHECKING:
    from tests.e2e.harness.installation import Installation

SECONDS = 90


def list_processes(pod_uid: str) -> list[int]:
    """Process ids on this machine of a pod's containers, but for the one that only holds its network."""
    names = {pod_uid, pod_uid.replace("-", "_")}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(name in (process / "cgroup").read_text() for name in names):
                command = (process / "cmdline").read_bytes()
                if command and not command.startswith(b"/pause"):
                    found.append(int(process.name))
    return found


def kill_operator(installation: Installation) -> None:
    """SIGKILL the operator and replace its pod at once, without the kubelet's back-off."""
    pod = installation.wait_for_operator()
    uid = str(pod["metadata"]["uid"])
    if installation.cluster.name == "embedded":
        processes = list_processes(uid)
        assert processes, f"no process of the operator's pod {uid} on this machine"
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    installation.api.delete("Pod", OPERATOR_NAMESPACE, pod["metadata"]["name"], grace=0)


def get_holder(installation: Installation) -> str:
    """Who holds the operator's Lease."""
    lease = installation.api.get("Lease", OPERATOR_NAMESPACE, RELEASE)
    return str(lease["spec"].get("holderIdentity", ""))


def wait_for_successor(installation: Installation, former: str) -> float:
    """Seconds until the operator's next process is ready and holds the Lease that `former` held."""
    began = time.monotonic()
    installation.wait_for_operator()
    wait_for(
        "a successor with the Lease",
        lambda: get_holder(installation) not in {"", former},
        SECONDS,
        tell=installation.read_operator_log,
    )
    return time.monotonic() - began
