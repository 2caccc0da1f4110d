"""Nonces: RFC 3339 by the API server's clock, and the latest wins."""

from tests.unit.operator.cli import samples

from dspy_operator.api.names import Command
from dspy_operator.cli.nonce import bare, handled_nonces, known_nonces, next_nonce


def test_a_nonce_is_the_servers_time_in_whole_seconds() -> None:
    assert next_nonce(samples.at("10:00:00") + 0.7, []) == "2026-11-23T10:00:00Z"


def test_a_nonce_is_later_than_every_known_one() -> None:
    known = ["2026-11-23T10:00:04Z", "2026-11-23T10:00:02.5Z", "nonsense", "2026-11-23T09:00:00"]
    assert next_nonce(samples.at("10:00:00"), known) == "2026-11-23T10:00:05Z"


def test_a_later_command_wins_also_as_text() -> None:
    first = next_nonce(samples.at("10:00:00"), [])
    second = next_nonce(samples.at("10:00:00"), [first])
    assert second > first


def test_annotations_and_both_records_are_known() -> None:
    deployment, rollout = samples.deployment(), samples.rollout()
    deployment["metadata"]["annotations"] = {
        Command.UNDO.annotation: "2026-11-23T10:00:01Z/3f9a12c4d5",
        "someone.else/annotation": "2026-11-23T11:00:00Z",
    }
    deployment["status"]["handledCommands"] = {"promote": ["2026-11-23T10:00:02Z"]}
    rollout["status"]["handledCommands"] = {"abort": ["2026-11-23T10:00:03Z"]}
    assert sorted(known_nonces(deployment, rollout)) == [
        f"2026-11-23T10:00:0{second}Z" for second in (1, 2, 3)
    ]


def test_a_command_is_handled_where_either_record_holds_its_nonce() -> None:
    deployment, rollout = samples.deployment(), samples.rollout()
    rollout["status"]["handledCommands"] = {"promote": ["2026-11-23T10:00:03Z"], "abort": ["x"]}
    assert handled_nonces(deployment, rollout, Command.PROMOTE) == ["2026-11-23T10:00:03Z"]
    assert handled_nonces(deployment, None, Command.PROMOTE) == []


def test_the_revision_of_an_undo_is_no_part_of_the_nonce() -> None:
    assert bare("2026-11-23T10:00:01Z/3f9a12c4d5") == "2026-11-23T10:00:01Z"
