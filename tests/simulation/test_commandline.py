"""Many seeds from the command line: what is told while they run."""

import pytest
from tests.simulation import __main__ as commandline


def test_whoever_stops_a_long_run_is_told_where_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commandline, "REPORT_EVERY", 0.0)
    parts = [(range(7, 57), (1, ["S4 at 20.00: it broke"])), (range(57, 107), (0, []))]
    assert commandline.report(range(7, 107), parts) == 1
    assert capsys.readouterr().out.splitlines() == [
        "S4 at 20.00: it broke",
        "50 of 100 rollouts, 1 broken, 0 s; the next is --seed 57 --runs 50",
        "100 of 100 rollouts, 1 broken, 0 s",
    ]


def test_a_part_says_how_many_of_its_seeds_were_broken() -> None:
    assert commandline.run_part(range(2), trace=False) == (0, [])
