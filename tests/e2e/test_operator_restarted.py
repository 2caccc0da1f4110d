"""The operator's container dies and the kubelet starts it again: it holds the Lease at once, not when that expires."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.installation import OPERATOR_NAMESPACE
from tests.e2e.harness.killing import get_holder, list_processes
from tests.e2e.harness.waiting import wait_for

if TYPE_CHECKING:
    from tests.e2e.harness.installation import Installation

pytestmark = pytest.mark.alone

GOAL = 15.0
"""Seconds from SIGKILL to a successor that may write."""


def test_the_container_that_follows_takes_the_lease_of_its_own_pod(installation: Installation) -> None:
    if installation.cluster.name != "embedded":
        pytest.skip("a process can be ended only on this machine's own node")
    pod = installation.wait_for_operator()
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    former = get_holder(installation)
    assert former.split("_")[:2] == [name, uid]
    began = time.monotonic()
    for process in list_processes(uid):
        os.kill(process, signal.SIGKILL)
    holder = wait_for(
        "another holder of the Lease",
        lambda: found if (found := get_holder(installation)) not in {"", former} else None,
        90,
        tell=installation.read_operator_log,
        poll=0.1,
    )
    seconds = time.monotonic() - began
    print(f"\nfrom SIGKILL to a successor in the same pod with the Lease: {seconds:.1f} s")
    assert holder.split("_")[:2] == [name, uid]
    assert seconds <= GOAL
    again = installation.api.get("Pod", OPERATOR_NAMESPACE, name)
    assert again["metadata"]["uid"] == uid
    installation.wait_for_operator()
