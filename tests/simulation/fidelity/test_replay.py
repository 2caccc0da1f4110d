"""The simulated API server answers as the real one did: every recorded request is asked of it again."""

from tests.simulation.fidelity.recording import Comparing, Pair, build_call, read_pairs
from tests.simulation.fidelity.samples import NAMESPACE
from tests.simulation.store import Store


def replay(pairs: list[Pair]) -> list[Pair]:
    """The same requests in the same order, with the uids and versions of this server."""
    store = Store(lambda: 1_800_000_000.0, namespaces=(NAMESPACE,))
    comparing = Comparing()
    found: list[Pair] = []
    for pair in pairs:
        call = build_call(pair["request"], comparing.numbers)
        answer = store.handle(call, "replay")
        found.append(comparing.build_pair(call, answer.status, answer.body))
    return found


def test_no_answer_differs_from_the_recorded_one() -> None:
    recorded = read_pairs()
    assert len(recorded) >= 200
    different = [(was, now) for was, now in zip(recorded, replay(recorded), strict=True) if was != now]
    assert different == []
