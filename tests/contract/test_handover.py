"""What the operator hands to a pod is what the server reads: routing table and configuration, whole."""

from datetime import timedelta
from typing import Any

from tests.unit.operator.api.examples import whole

from dspy_operator.api.names import slot_path
from dspy_operator.manifests.owner import Owner
from dspy_operator.manifests.workload import Workload, build_deployment, build_server_config
from dspy_operator.rollout.model import Program, Share, Split
from dspy_operator.traffic.table import Headers, Stamp, build_table
from dspy_server.contract import PROGRAMS_DIR
from dspy_server.routes import parse_table
from dspy_server.settings import load_settings

OWNER = Owner("ml", "triage", "uid")
STABLE = Program("0123456789", "01234567", "a" * 64, "support_triage:Triage")
CANARY = Program("9876543210", "01234567", "b" * 64, "support_triage:Triage")


def test_the_server_reads_the_table_that_the_operator_writes() -> None:
    split = Split(Share(STABLE, 0, 90), Share(CANARY, 2, 10))
    config_map = build_table(OWNER, split, 12, Headers("X-User-Id", ""), Stamp("triage-9876543210-1", 3, 1))
    table = parse_table(config_map["data"]["routes.json"].encode(), PROGRAMS_DIR)
    assert (table.generation, table.program, table.user_header) == (12, "triage", "X-User-Id")
    read = [
        (r.revision, r.workload, r.module, r.sha256, r.track, r.weight, r.path)
        for r in table.list_own("01234567")
    ]
    assert read == [
        (STABLE.revision, STABLE.workload, STABLE.module, STABLE.sha256, "stable", 90, slot_path(0)),
        (CANARY.revision, CANARY.workload, CANARY.module, CANARY.sha256, "canary", 10, slot_path(2)),
    ]


def test_pods_of_a_leaving_workload_keep_their_route_at_weight_zero() -> None:
    old = Program("1111111111", "89abcdef", "c" * 64, "support_triage:Triage")
    split = Split(Share(STABLE, 0, 100), None, (Share(old, 1, 0),))
    config_map = build_table(OWNER, split, 13, Headers(), Stamp())
    table = parse_table(config_map["data"]["routes.json"].encode(), PROGRAMS_DIR)
    assert [route.revision for route in table.list_own("89abcdef")] == ["1111111111"]


def _build_workload(spec: dict[str, Any]) -> Workload:
    return Workload(
        owner=OWNER,
        workload="01234567",
        image="server:1",
        module=spec["program"]["module"],
        lm=spec["lm"],
        timeout=timedelta(seconds=30),
        replicas=2,
        serving=spec["serving"],
        scoring=spec["scoring"],
    )


def test_the_server_takes_every_knob_of_the_whole_example() -> None:
    workload = _build_workload(whole()["spec"])
    container = build_deployment(workload)["spec"]["template"]["spec"]["containers"][0]
    env = {entry["name"]: entry.get("value", "0123456789abcdef0123") for entry in container["env"]}
    assert env["DSPY_SERVER_CONFIG"] == build_server_config(workload)
    settings = load_settings(env)
    assert settings.config.module == "support_triage:Triage"
    assert settings.config.lm.primary.model == "openai/gpt-4o-mini"
    assert [target.model for target in settings.config.lm.fallbacks] == ["anthropic/claude-haiku-4-5"]
