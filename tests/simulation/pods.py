"""The serving pods and their kubelet: they read the mounted table when they hear of it, load programs, answer users.

Called by `run.py`; `prometheus.py` scrapes them. A pod here does what `dspy_server` does with tables and programs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulation.hand import Hand
from tests.simulation.plan import FaultKind
from tests.simulation.store import Change, Object
from tests.simulation.user import VARIANT
from tests.simulation.weather import Weather

from dspy_operator.api import names
from dspy_operator.api.names import Label, Metric, ProgramState, ScoreSource, Track
from dspy_operator.kube.resources import CONFIGMAPS, PODS
from dspy_operator.manifests.archive import find_digest
from dspy_operator.manifests.routes import Route, Table, parse_routes
from dspy_operator.metrics.readings import CounterKey, PodReading

PERIOD = (60.0, 90.0)
"""Seconds after which a kubelet refreshes a mounted ConfigMap by itself."""
QUICK, SATURATED = (0.05, 0.23), (1.0, 3.0)
"""Seconds from a pod's annotation to its new content, measured on a quiet and on a busy node."""
LATE = (FaultKind.UNPULLED, FaultKind.UNREADY)
"""Faults that keep a pod that was made in them from getting ready."""
LOADING = (0.05, 0.4)
STARTING = (0.5, 1.5)


@dataclass(eq=False)
class Pod:
    """One serving pod; what is not counted by `samples` is lost with its process."""

    name: str
    owner: str
    workload: str
    born: int = 0
    mounted: dict[str, Object] = field(default_factory=dict)
    table: Table | None = None
    applied_at: float = 0.0
    states: dict[str, ProgramState] = field(default_factory=dict)
    ready: bool = False
    ready_since: float = 0.0
    gone: bool = False
    counters: dict[CounterKey, float] = field(default_factory=dict)
    carry: dict[str, float] = field(default_factory=dict)
    counted_at: float = 0.0
    samples: list[tuple[float, PodReading]] = field(default_factory=list)
    ended: float = math.inf
    variant: str = ""
    """Which workload its spec says it is."""
    late: FaultKind | None = None
    """The fault in which it was made, which keeps it from getting ready."""

    @property
    def routes(self) -> list[Route]:
        """The routes of the pod's own workload."""
        return [route for route in self.table.routes if route.workload == self.workload] if self.table else []

    def is_loaded(self, revision: str) -> bool:
        return self.states.get(revision) is ProgramState.LOADED

    def list_split(self) -> list[tuple[Route, float]]:
        """Who answers which part of this pod's requests: what cannot answer leaves its share to the others."""
        able = [route for route in self.routes if self.is_loaded(route.revision)]
        total = sum(route.weight for route in able)
        if not total:
            return [(route, 1.0) for route in able[:1]]
        return [(route, route.weight / total) for route in able if route.weight]

    def list_in_use(self) -> set[tuple[str, str]]:
        """(path, digest) of the programs that this pod may answer with."""
        answering = [route for route in self.routes if route.weight] or self.routes
        return {(route.path, route.sha256) for route in answering}


class Kubelet:
    """All pods of the simulated cluster."""

    def __init__(
        self, weather: Weather, hand: Hand, scores: dict[str, float], unfit: set[str], rate: float
    ) -> None:
        self.pods: dict[tuple[str, str], Pod] = {}
        self.past: list[Pod] = []
        self.shares: dict[str, float] = {}
        """Which part of all requests reaches each pod, by name."""
        self.hurt_at = -math.inf
        """When a pod was last hurt by a fault."""
        self._weather = weather
        self._hand = hand
        self._scores = scores
        self._unfit = unfit
        self._rate = rate
        self._stuck = frozenset(weather.plan.stuck)

    # --- the cluster tells the kubelet --------------------------------------------------------------------------

    def notice(self, change: Change) -> None:
        """A pod was created, deleted or annotated."""
        if change.resource is not PODS:
            return
        meta = change.live["metadata"]
        place = meta["namespace"], meta["name"]
        if names.LABEL_WORKLOAD not in meta["labels"]:
            return
        if change.after is None:
            self._end(place)
        elif change.before is None:
            labels = meta["labels"]
            pod = Pod(
                meta["name"],
                labels[names.LABEL_INSTANCE],
                labels[names.LABEL_WORKLOAD],
                variant=_find_variant(change.live),
            )
            pod.late = next((kind for kind in LATE if self._weather.is_on(kind)), None)
            self.pods[place] = pod
            self._start(place, pod)
            self._refresh_now_and_then(place, pod)
        elif _get_told(change.before) != _get_told(change.after):
            self._hear(place)

    def _hear(self, place: tuple[str, str]) -> None:
        weather = self._weather
        if weather.is_on(FaultKind.DEAF) and weather.rng.random() < 0.6:
            return
        busy = weather.is_on(FaultKind.SATURATED)
        self._later(weather.rng.uniform(*(SATURATED if busy else QUICK)), place, self._sync)

    def _refresh_now_and_then(self, place: tuple[str, str], pod: Pod) -> None:
        def refresh(place: tuple[str, str], pod: Pod) -> None:
            self._sync(place, pod)
            self._refresh_now_and_then(place, pod)

        self._later(self._weather.rng.uniform(*PERIOD), place, refresh)

    def _later(
        self, delay: float, place: tuple[str, str], act: Callable[[tuple[str, str], Pod], None]
    ) -> None:
        """Act on the pod if it is still the same process then."""
        pod = self.pods.get(place)
        if pod is None:
            return
        born = pod.born

        def run() -> None:
            if not pod.gone and (pod.born == born or act != self._finish):
                act(place, pod)

        self._weather.later(delay, run)

    # --- the server in the pod --------------------------------------------------------------------------------

    def _start(self, place: tuple[str, str], pod: Pod) -> None:
        """A process starts, with nothing but what is mounted."""
        pod.born += 1
        pod.table, pod.states, pod.counters, pod.carry = None, {}, {}, {}
        self._later(self._weather.rng.uniform(*STARTING), place, self._begin)

    def _begin(self, place: tuple[str, str], pod: Pod) -> None:
        if pod.late is FaultKind.UNPULLED and self._weather.is_on(pod.late):
            self._show(place, pod)
        else:
            self._sync(place, pod)
            self._get_ready(place, pod)
        if not pod.ready:
            self._later(1.0, place, self._begin)

    def _sync(self, place: tuple[str, str], pod: Pod) -> None:
        """The mounted ConfigMaps become what they are now; the server looks at them."""
        namespace, _ = place
        wanted = [names.routes_name(pod.owner), *(names.slot_name(pod.owner, n) for n in range(names.SLOTS))]
        for name in wanted:
            found = self._weather.store.find(CONFIGMAPS, namespace, name)
            if found is not None:
                pod.mounted[name] = found
        self._look(place, pod)

    def _look(self, place: tuple[str, str], pod: Pod) -> None:
        table = parse_routes(pod.mounted.get(names.routes_name(pod.owner)))
        if table is not None and (pod.table is None or table.generation > pod.table.generation):
            self.count(pod)
            pod.table, pod.applied_at = table, self._weather.time
        known = {route.revision for route in pod.routes}
        pod.states = {revision: state for revision, state in pod.states.items() if revision in known}
        for route in pod.routes:
            self._consider(place, pod, route)

    def _consider(self, place: tuple[str, str], pod: Pod, route: Route) -> None:
        """Begin to load a program that is not loaded."""
        if pod.states.get(route.revision) in {ProgramState.LOADED, ProgramState.LOADING}:
            return
        slots = {names.slot_path(n): names.slot_name(pod.owner, n) for n in range(names.SLOTS)}
        digest = find_digest(pod.mounted.get(slots.get(route.path, ""), {}))
        if digest is None:
            pod.states[route.revision] = ProgramState.WAITING
        elif digest != route.sha256:
            pod.states[route.revision] = ProgramState.DIGEST
        elif route.sha256 in self._unfit:
            pod.states[route.revision] = ProgramState.REFUSED
        else:
            pod.states[route.revision] = ProgramState.LOADING
            self._later(self._weather.rng.uniform(*LOADING), place, self._finish)

    def _finish(self, place: tuple[str, str], pod: Pod) -> None:
        self.count(pod)
        for revision, state in pod.states.items():
            if state is ProgramState.LOADING:
                pod.states[revision] = ProgramState.LOADED
        self._get_ready(place, pod)

    def _get_ready(self, place: tuple[str, str], pod: Pod) -> None:
        """As soon as it can answer, if nothing keeps it."""
        kept = pod.late is not None and self._weather.is_on(pod.late)
        if pod.ready or kept or pod.variant in self._stuck or not pod.list_split():
            return
        self.count(pod)
        pod.ready, pod.ready_since = True, self._weather.time
        self._show(place, pod)

    def _show(self, place: tuple[str, str], pod: Pod) -> None:
        found = self._weather.store.find(PODS, *place)
        if found is None:
            return
        status: Object = {"conditions": [{"type": "Ready", "status": "True" if pod.ready else "False"}]}
        if pod.late is FaultKind.UNPULLED:
            state = {} if pod.ready else {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
            status["containerStatuses"] = [{"name": names.CONTAINER, "state": state}]
        self._hand.merge(PODS, found, {"status": status}, "status")

    def crash(self) -> None:
        """One process dies and is started again."""
        if self.pods:
            self._crash(self._weather.rng.choice(sorted(self.pods)))

    def crash_canary(self) -> None:
        """Every process of a canary with pods of its own dies and is started again."""
        for place, pod in sorted(self.pods.items()):
            tracks = {route.track for route in pod.routes}
            if tracks == {Track.CANARY}:
                self._crash(place)

    def _crash(self, place: tuple[str, str]) -> None:
        pod = self.pods[place]
        self.hurt_at = self._weather.time
        self.count(pod)
        pod.ready = False
        self._show(place, pod)
        self._start(place, pod)

    def evict(self) -> None:
        """One pod is deleted."""
        if self.pods:
            found = self._weather.store.find(PODS, *self._weather.rng.choice(sorted(self.pods)))
            if found is not None:
                self.hurt_at = self._weather.time
                self._hand.delete(PODS, found)

    def _end(self, place: tuple[str, str]) -> None:
        pod = self.pods.pop(place, None)
        if pod is not None:
            pod.gone, pod.ready, pod.ended = True, False, self._weather.time
            self.past.append(pod)

    # --- users --------------------------------------------------------------------------------------------------

    def count_all(self) -> None:
        """Before the shares change."""
        for pod in self.pods.values():
            self.count(pod)

    def count(self, pod: Pod) -> None:
        """Count the requests since the last time."""
        now = self._weather.time
        passed, pod.counted_at = now - pod.counted_at, now
        share = self.shares.get(pod.name)
        if not pod.ready or not share or passed <= 0:
            return
        requests = passed * self._rate * share
        for route, share in pod.list_split():
            exact = pod.carry.get(route.revision, 0.0) + requests * share
            n = int(exact)
            pod.carry[route.revision] = exact - n
            if n:
                self._add(pod, route, n)

    def _add(self, pod: Pod, route: Route, n: int) -> None:
        score = self._scores.get(route.sha256, 0.8)
        good = self._weather.rng.gauss(n * score, math.sqrt(n * score * (1 - score)))
        total = float(min(n, max(0, round(good))))
        answered, samples, sums, squares = _build_keys(route.revision)
        for key, value in ((answered, n), (samples, n), (sums, total), (squares, total)):
            pod.counters[key] = pod.counters.get(key, 0.0) + value

    def read(self, pod: Pod, at: float) -> PodReading:
        """What a scrape sees."""
        self.count(pod)
        return PodReading(
            generation=pod.table.generation if pod.table else 0,
            sampled_at=at,
            applied_at=pod.applied_at,
            loaded={revision: state is ProgramState.LOADED for revision, state in pod.states.items()},
            states={revision: state.value for revision, state in pod.states.items()},
            counters=dict(pod.counters),
        )


def _find_variant(pod: Object) -> str:
    containers = pod["spec"].get("containers") or ()
    variables = (one for container in containers for one in container.get("env") or ())
    return next((str(one.get("value")) for one in variables if one["name"] == VARIANT), "")


_KEYS: dict[str, tuple[CounterKey, CounterKey, CounterKey, CounterKey]] = {}


def _build_keys(revision: str) -> tuple[CounterKey, CounterKey, CounterKey, CounterKey]:
    if revision not in _KEYS:
        answered = ((Label.CODE.value, "200"), (Label.ROUTE.value, "/predict"))
        source = ((Label.SOURCE.value, ScoreSource.METRIC.value),)
        scores = (Metric.SCORE_SAMPLES, Metric.SCORE_SUM, Metric.SCORE_SUMSQ)
        one, two, three = (CounterKey(name.value, revision, source) for name in scores)
        _KEYS[revision] = CounterKey(Metric.HTTP_REQUESTS.value, revision, answered), one, two, three
    return _KEYS[revision]


def _get_told(pod: Object) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(names.ANNOTATION_ROUTES_GENERATION, ""))
