"""Every state that the rollouts of a namespace go through, seen by a watch of its own, from beginning to end.

The record of an attempt keeps its decisions; what lies between them (evidence moving, a weight taking effect) is here.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import requests
from tests.e2e.harness.api import Api, Object, build_path
from tests.e2e.harness.views import Rollout, read_rollout

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class RolloutWatch:
    """A thread that keeps all states of all rollouts of one namespace, in order."""

    api: Api
    namespace: str
    on_change: Callable[[Rollout], object] = lambda _: None
    states: list[Rollout] = field(default_factory=list)
    deleted: list[Rollout] = field(default_factory=list)
    _versions: set[str] = field(default_factory=set)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._thread = threading.Thread(target=self._run, name=f"watch-{self.namespace}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; the states stay."""
        self._stopped.set()
        if self._thread:
            self._thread.join(5)

    def list_states(self, rollout: str) -> list[Rollout]:
        """All states of one rollout."""
        return [state for state in list(self.states) if state.name == rollout]

    def find_effective_at(self, rollout: str, step: int) -> float | None:
        """When the weight of a step was first in effect in every pod, Unix seconds."""
        states = (s for s in self.list_states(rollout) if s.phase == "Stepping" and s.step == step)
        return next((s.weight_effective_at for s in states if s.weight_effective_at), None)

    def find_judged(self, rollout: str, step: int) -> Rollout | None:
        """The state that left a step: it still holds the measurements by which the step was decided."""
        states = self.list_states(rollout)
        inside = [number for number, s in enumerate(states) if (s.phase, s.step) == ("Stepping", step)]
        return next((s for s in states[inside[-1] + 1 :] if s.metrics), None) if inside else None

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._watch()
            except (requests.RequestException, ValueError, KeyError):
                self._stopped.wait(0.5)

    def _watch(self) -> None:
        url = self.api.url + build_path("DSPyRollout", self.namespace)
        params = {"watch": "1", "timeoutSeconds": "300"}
        with requests.get(url, params=params, stream=True, timeout=(5, 2)) as stream:
            stream.raise_for_status()
            for line in stream.iter_lines(chunk_size=None):
                self._add(json.loads(line))
                if self._stopped.is_set():
                    return

    def _add(self, event: Object) -> None:
        obj = event["object"]
        if event["type"] == "ERROR":
            raise ValueError("the watch is too old")
        rollout, version = read_rollout(obj), obj["metadata"]["resourceVersion"]
        if event["type"] == "DELETED":
            self.deleted.append(rollout)
        elif version not in self._versions:
            self._versions.add(version)
            self.states.append(rollout)
            self.on_change(rollout)
