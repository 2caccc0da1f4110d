"""The regression gate on both sides: the Job's arguments are the command's, its last words are the operator's."""

import argparse
import json
from dataclasses import replace

from tests.unit.operator.manifests.test_jobs import asking, compare

from dspy_operator.manifests.jobs import GATE_DIR
from dspy_operator.reconcile.gates import VERDICTS
from dspy_server.contract import GateReason, GateVerdict
from dspy_server.eval_command import add_parser
from dspy_server.verdict import Outcome, Pair, Rule, Subject, dump, judge


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return parser.parse_args(arguments)


def test_the_command_understands_what_the_job_asks() -> None:
    asked = parse(asking()["args"])
    assert str(asked.dataset) == f"{GATE_DIR}/examples/examples.jsonl"
    assert str(asked.canary) == f"{GATE_DIR}/canary/program.json"
    assert str(asked.stable) == f"{GATE_DIR}/stable/program.json"
    assert (asked.max_drop, asked.mode, asked.confidence) == (0.025, "Evidence", 0.95)
    assert asked.metric == "support_triage:metric"


def test_a_first_revision_is_asked_alone() -> None:
    assert parse(asking(comparison=compare(None))["args"]).stable is None


def test_stable_of_other_code_may_not_fit_and_the_command_is_told_so() -> None:
    other = replace(compare(), is_other_code=True)
    assert parse(asking(comparison=other)["args"]).stable_may_differ
    assert not parse(asking()["args"]).stable_may_differ
    first = replace(compare(None), is_other_code=True)
    assert not parse(asking(comparison=first)["args"]).stable_may_differ


def test_every_verdict_of_the_server_is_known_to_the_operator() -> None:
    assert set(VERDICTS) == {verdict.value for verdict in GateVerdict}


def test_a_pass_names_the_programs_that_it_is_about() -> None:
    subject = Subject(1, "5" * 64, "c" * 64, "a" * 64)
    result = judge(Rule(), subject, [Pair(1, Outcome(1.0), Outcome(1.0))])
    said = json.loads(dump(result))
    assert (said["verdict"], said["reason"]) == (GateVerdict.PASS, GateReason.PASSED)
    assert (said["canarySha256"], said["stableSha256"]) == ("c" * 64, "a" * 64)
    assert said["message"]
