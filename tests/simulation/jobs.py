"""The job controller, and what the runs of the regression gate say of the programs that they are given.

Called by `run.py` for each write; `referee.py` asks what was passed.
"""

import json

from tests.simulation.hand import Hand
from tests.simulation.store import Change, Object
from tests.simulation.weather import Weather

from dspy_operator.api import names
from dspy_operator.kube.resources import JOBS, PODS
from dspy_operator.reconcile.snapshot import JOB_LABEL
from dspy_operator.rollout.clock import format_time

LASTS = 3.0
"""Seconds of a run."""
FAR_BELOW = 0.9
"""Times stable's score: who is lower fails."""


class Jobs:
    """`scores` by digest. `passed`: (canary, stable) digests of which a run said yes; without stable it is empty."""

    def __init__(self, weather: Weather, hand: Hand, scores: dict[str, float]) -> None:
        self.passed: set[tuple[str, str]] = set()
        self._weather = weather
        self._hand = hand
        self._scores = scores
        self._runs: dict[str, int] = {}

    def notice(self, change: Change) -> None:
        """A new Job runs for a while."""
        if change.resource is JOBS and change.before is None:
            job = change.live
            self._weather.later(LASTS, lambda: self._end(job))

    def _end(self, job: Object) -> None:
        """It ends, if it is still that one: its pod's last words, then its condition."""
        meta = job["metadata"]
        live = self._weather.store.find(JOBS, meta["namespace"], meta["name"])
        if live is None or live["metadata"]["uid"] != meta["uid"]:
            return
        words = self._say(job)
        state = {"terminated": {"message": words, "exitCode": 0 if words else 137}}
        self._hand.create(PODS, _build_pod(job))
        pod = self._weather.store.find(PODS, meta["namespace"], f"{meta['name']}-x")
        if pod is not None:
            statuses = [{"name": names.CONTAINER, "state": state}]
            self._hand.merge(PODS, pod, {"status": {"containerStatuses": statuses}}, "status")
        ended = {
            "type": "Complete" if words else "Failed",
            "status": "True",
            "lastTransitionTime": format_time(self._weather.time),
        }
        self._hand.merge(JOBS, live, {"status": {"conditions": [ended]}}, "status")

    def _say(self, job: Object) -> str:
        canary, stable = (_find_digest(self._scores, job, arm) for arm in ("canary", "stable"))
        count = self._runs[canary] = self._runs.get(canary, 0) + 1
        letters = self._weather.plan.gate
        letter = letters[min(count, len(letters)) - 1]
        if letter == "k":
            return ""
        if letter == "n":
            return json.dumps({"verdict": "NoVerdict", "message": "no model answered"})
        is_worse = bool(stable) and self._scores[canary] < FAR_BELOW * self._scores[stable]
        if not is_worse:
            self.passed.add((canary, stable))
        told = {"verdict": "Fail" if is_worse else "Pass", "message": "as measured"}
        return json.dumps(told | {"canarySha256": canary, "stableSha256": stable or None})


def _build_pod(job: Object) -> Object:
    meta, template = job["metadata"], job["spec"]["template"]
    owner = {"kind": "Job", "name": meta["name"], "uid": meta["uid"], "controller": True}
    return {
        "metadata": {
            "name": f"{meta['name']}-x",
            "namespace": meta["namespace"],
            "labels": {**template["metadata"]["labels"], JOB_LABEL: meta["name"]},
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
    }


def _find_digest(scores: dict[str, float], job: Object, arm: str) -> str:
    """Which program the Job mounts for an arm; empty: none."""
    volumes = {volume["name"]: volume for volume in job["spec"]["template"]["spec"]["volumes"]}
    if f"gate-{arm}" not in volumes:
        return ""
    copy = str(volumes[f"gate-{arm}"]["configMap"]["name"])
    return next(digest for digest in scores if copy.endswith(names.short_digest(digest)))
