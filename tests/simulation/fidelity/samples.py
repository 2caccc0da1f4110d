"""One small object of each kind, with and without a field that an apply may take away."""

from typing import Any

from tests.simulation.plan import Plan
from tests.simulation.user import build_spec

from dspy_operator.api.defaults import strategy_with_defaults
from dspy_operator.api.spec import parse_deployment
from dspy_operator.kube.resources import Resource

Object = dict[str, Any]

NAMESPACE = "fidelity"
OTHER_LABELS = "app=nobody"


def list_labels(name: str) -> str:
    """The selector of one sample."""
    return f"app={name},suite=fidelity"


def build(resource: Resource, name: str, *, extra: bool = False) -> Object:
    """The sample; `extra` has one field more."""
    labels = {"app": name, "suite": "fidelity"}
    meta = {"name": name, "namespace": NAMESPACE, "labels": {**labels, **({"extra": "yes"} if extra else {})}}
    return {"metadata": meta, **_build_rest(resource, name, extra=extra)}


def _build_rest(resource: Resource, name: str, *, extra: bool) -> Object:  # noqa: PLR0911  one arm for each kind
    match resource.kind:
        case "ConfigMap":
            return {"data": {"a": "1", **({"b": "2"} if extra else {})}}
        case "DSPyDeployment":
            return {"spec": build_spec(Plan(0, ()), "a")}
        case "DSPyRollout":
            return {"spec": _build_rollout_spec()}
        case "ControllerRevision":
            return {"data": {"lm": {"primary": {"model": "x"}}, "revision": "0123456789"}, "revision": 1}
        case "Deployment":
            return {"spec": _build_deployment_spec(name, extra=extra)}
        case "Service":
            ports = [{"name": "http", "port": 80, "targetPort": "http"}]
            more = [{"name": "metrics", "port": 9090, "targetPort": "metrics"}] if extra else []
            return {"spec": {"selector": {"app": name}, "ports": [*ports, *more]}}
        case "PodDisruptionBudget":
            more_policy = {"unhealthyPodEvictionPolicy": "AlwaysAllow"} if extra else {}
            return {"spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": name}}, **more_policy}}
        case "Pod":
            return {"spec": {"containers": [{"name": "server", "image": "example.org/server:1"}]}}
        case _:
            return {"spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 15}}


def _build_rollout_spec() -> Object:
    meta = {"name": "x", "namespace": NAMESPACE, "uid": "x", "generation": 1}
    parsed = parse_deployment({"metadata": meta, "spec": build_spec(Plan(0, ()), "a")})
    sides = {
        side: {
            "revision": letter * 10,
            "workload": "0a1b2c3d",
            "module": "triage:Triage",
            "sha256": letter * 64,
            "version": letter * 12,
        }
        for side, letter in (("from", "a"), ("to", "b"))
    }
    strategy = strategy_with_defaults(parsed.spec, feedback_scores=False).to_wire()
    rest = {"deployment": "x", "attempt": 1, "fast": False, "userHeader": "", "strategy": strategy}
    return {**sides, **rest}


def _build_deployment_spec(name: str, *, extra: bool) -> Object:
    env = [{"name": "A", "value": "1"}, *([{"name": "B", "value": "2"}] if extra else [])]
    server: Object = {
        "name": "server",
        "image": "example.org/server:1",
        "env": env,
        "ports": [{"name": "http", "containerPort": 8080}],
        "volumeMounts": [{"name": "routes", "mountPath": "/etc/dspy/routes"}],
    }
    if extra:
        server["command"] = ["run"]
    sidecar = [{"name": "sidecar", "image": "example.org/sidecar:1"}] if extra else []
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {
            "containers": [server, *sidecar],
            "volumes": [{"name": "routes", "configMap": {"name": "routes", "optional": True}}],
        },
    }
    return {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template}
