"""The invariants of the two durable records: how an attempt may go on, when stable moves, what a command may do.

Called by `run.py` for each change, beside `referee.py`.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.simulation.plan import FaultKind
from tests.simulation.referee import LOWERED, Referee
from tests.simulation.store import Change
from tests.simulation.user import NAME, NAMESPACE, PREVIEW, get_digest

from dspy_operator.api import names
from dspy_operator.kube.resources import CONTROLLERREVISIONS, DSPYDEPLOYMENTS, DSPYROLLOUTS
from dspy_operator.rollout.clock import parse_time

Wire = dict[str, Any]

FORWARD = ("Preparing", "Stepping", "Promoting", "Baking", "Promoted")
PROMOTING = ("promote", "promote-full")
ACTING = frozenset({*PROMOTING, "abort", "undo"})
LOOKED_LATELY = 12.0
"""Seconds after the beginning of an outage in which a reading from before it may still be acted upon."""
SEEN = frozenset(
    {
        "EvidenceOfQuality",
        "ThresholdPassed",
        "DeadlineThresholdPassed",
        "DeadlinePromote",
        "BakeComplete",
        "GateOpen",
    }
)
"""Reasons by which the judge lets an attempt go forward."""
MEASURED = frozenset({"EvidenceOfRegression", "ThresholdViolated", "EvidenceOfQuality", "ThresholdPassed"})
"""Reasons that need a measurement."""
HOPELESS, GREAT = 0.5, 0.9


@dataclass
class Records:
    """Checks writes of the two statuses."""

    referee: Referee
    acted: set[tuple[str, str]] = field(default_factory=set)

    def check(self, change: Change) -> None:
        """One write."""
        if not change.who.startswith("operator") or change.after is None or change.before is None:
            return
        before, after = (obj.get("status") or {} for obj in (change.before, change.after))
        if change.resource is DSPYROLLOUTS:
            self._check_attempt(change, before, after)
        elif change.resource is DSPYDEPLOYMENTS:
            self._check_deployment(before, after)

    # --- R ------------------------------------------------------------------------------------------------------

    def _check_attempt(self, change: Change, before: Wire, after: Wire) -> None:
        was, now = before.get("phase") or "Preparing", after.get("phase") or "Preparing"
        if was in LOWERED and now in FORWARD:
            self.referee.say("S7", f"an attempt goes from {was} to {now}")
        moved = (was, before.get("step") or 0) != (now, after.get("step") or 0)
        spoken = self._check_commands(change, before, after)
        if not moved:
            return
        if now == "RollingBack" and after.get("reason") == "Aborted" and not spoken & {"abort", "undo"}:
            self.referee.say("S14", "an abort acts without being noted")
        if after.get("decisionNumber", 0) <= before.get("decisionNumber", 0):
            self.referee.say("W3", f"{was} to {now} without a new decision number")
        if now in FORWARD and not change.live["spec"].get("fast"):
            self._check_advance(before, after, was, by_person=bool(spoken & set(PROMOTING)))
        self._check_blind(change, before, after)
        self._check_score(change, before, after)

    def _check_advance(self, before: Wire, after: Wire, was: str, *, by_person: bool) -> None:
        """S4: forward only by a verdict on looks since the weight took effect, or by a person.

        Of the regression gate's verdict the referee asks who gave it.
        """
        if by_person or was in {"Preparing", "Regression", "Promoting"}:
            return
        if was == "Stepping" and not before.get("step"):
            self._check_preview(before)
            return
        reason = after.get("reason") if after.get("phase") != "Promoted" else "BakeComplete"
        if reason not in SEEN:
            self.referee.say("S4", f"{was} {before.get('step')} to {after.get('phase')} by {reason}")
        if not after.get("looks"):
            self.referee.say("S4", "nothing says what was measured")
        since = parse_time(str(before.get("weightEffectiveAt")))
        least = self.referee.weather.plan.min_duration
        if since is None or self.referee.weather.time - since < least - 0.5:
            self.referee.say("S4", f"the step was over after less than {least:.0f} s")

    def _check_preview(self, before: Wire) -> None:
        """S4: people could look at it for as long as they were promised; nobody judges it."""
        since = parse_time(str(before.get("stepStartedAt")))
        if since is None or self.referee.weather.time - since < PREVIEW - 0.5:
            self.referee.say("S4", f"the preview was over after less than {PREVIEW:.0f} s")

    def _check_blind(self, change: Change, before: Wire, after: Wire) -> None:
        """S16: who cannot measure does not judge."""
        began = [f.at for f in self.referee.weather.list_on(FaultKind.BLIND)]
        if not began or self.referee.weather.elapsed - min(began) < LOOKED_LATELY:
            return
        reason = str(after.get("reason"))
        if reason in MEASURED or (reason == "GateOpen" and not change.live["spec"].get("fast")):
            self.referee.say(
                "S16", f"{before.get('phase')} to {after.get('phase')} by {reason} without Prometheus"
            )

    def _check_score(self, change: Change, before: Wire, after: Wire) -> None:
        """Q: a hopeless program is not promoted and a great one not rolled back by what users say."""
        plan = self.referee.weather.plan
        scores = {get_digest(letter): score for letter, score in plan.scores}
        to, origin = (scores.get(change.live["spec"][side]["sha256"], 0.8) for side in ("to", "from"))
        reason = str(after.get("reason"))
        if reason in {"EvidenceOfQuality", "DeadlineThresholdPassed"} and to / origin <= HOPELESS:
            self.referee.say(
                "Q", f"{before.get('phase')} to {after.get('phase')} with a score of {to} against {origin}"
            )
        if reason in {"EvidenceOfRegression", "DeadlineThresholdViolated"} and to / origin > 1.0:
            self.referee.say("Q", f"rolled back by {reason} with a score of {to} against {origin}")

    # --- commands -----------------------------------------------------------------------------------------------

    def _check_commands(self, change: Change, before: Wire, after: Wire) -> set[str]:
        """S14: a nonce acts once, on the attempt that was open when it was given. Returns the commands that spoke."""
        spoken: set[str] = set()
        uid = change.live["metadata"]["uid"]
        known = before.get("handledCommands") or {}
        for command, nonces in (after.get("handledCommands") or {}).items():
            for nonce in nonces:
                if nonce in known.get(command, ()) or command not in ACTING:
                    continue
                spoken.add(command)
                if (command, nonce) in self.acted:
                    self.referee.say("S14", f"{command} {nonce} acts again")
                self.acted.add((command, nonce))
                given = self.referee.people.given.get((command, nonce))
                if given != uid:
                    self.referee.say(
                        "S14", f"{command} was given to attempt {given or 'none'} and acts on {uid}"
                    )
        return spoken

    # --- D ------------------------------------------------------------------------------------------------------

    def _check_deployment(self, before: Wire, after: Wire) -> None:
        pointer = before.get("canary") or {}
        uid = pointer.get("rolloutUID", "")
        rollout = self.referee.find_rollout(uid)
        if uid and (after.get("canary") or {}).get("rolloutUID") != uid:
            phase = ((rollout or {}).get("status") or {}).get("phase")
            if rollout is not None and phase not in LOWERED - {"RollingBack"} | {"Promoted"}:
                self.referee.say("S10", f"the pointer goes while the attempt is {phase}")
        was, now = (part.get("stable") or {} for part in (before, after))
        if not was.get("promotedAt") or was.get("revision") == now.get("revision"):
            return
        store = self.referee.weather.store
        revision = str(now.get("revision"))
        if store.find(CONTROLLERREVISIONS, NAMESPACE, names.revision_name(NAME, revision)) is None:
            self.referee.say("S8", f"stable {revision} has no ControllerRevision")
        if any(entry["revision"] == revision for entry in before.get("rejected") or ()):
            self.referee.say("S5", f"rejected {revision} becomes stable")
        if rollout is None:
            self.referee.say("S8", f"stable moves to {revision} without an attempt")
        elif rollout["status"].get("phase") != "Promoted" or rollout["spec"]["to"]["revision"] != revision:
            self.referee.say("S8", f"stable moves to {revision} while {rollout['status'].get('phase')}")
