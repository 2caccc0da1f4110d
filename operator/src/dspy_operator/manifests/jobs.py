"""The Job of the regression gate: the serving pods' own image, code and keys, asked a set of examples instead of users.

It runs once (`backoffLimit: 0`); who starts it again is the reconciler, which knows why it said nothing.
"""

from dataclasses import dataclass
from typing import Final

from dspy_operator.api import names
from dspy_operator.api.choices import Mode
from dspy_operator.api.quantities import Confidence, format_percent
from dspy_operator.api.rollout import FilledRegression
from dspy_operator.manifests.overlay import merge_pod_template
from dspy_operator.manifests.owner import Manifest, Owner, build_child, build_labels
from dspy_operator.manifests.workload import PROGRAM_VOLUMES, ROUTES_VOLUME, Workload, build_pod_template

GATE_DIR: Final = "/etc/dspy/gate"
KEPT_SECONDS: Final = 3600
"""How long a Job that has ended is kept for people to read its log."""
_EXAMPLES: Final = "examples"
_NOT_OF_A_JOB: Final = ("ports", "startupProbe", "livenessProbe", "readinessProbe")
_LABELS_OF_SERVING: Final = frozenset({names.LABEL_COMPONENT, names.LABEL_WORKLOAD})
_VOLUMES_OF_SERVING: Final = frozenset({ROUTES_VOLUME, *PROGRAM_VOLUMES})


@dataclass(frozen=True)
class Comparison:
    """What is compared: digests of the programs, of which copies are kept; no stable one for the first revision.

    `is_other_code`: stable's pods run something else, so that its program may not fit.
    """

    name: str
    gate: FilledRegression
    mode: Mode
    confidence: Confidence
    canary: str
    stable: str | None
    is_other_code: bool = False

    @property
    def arms(self) -> dict[str, str]:
        """The digests by the role of each."""
        return {names.Track.CANARY.value: self.canary} | (
            {names.Track.STABLE.value: self.stable} if self.stable else {}
        )


def build_gate(workload: Workload, comparison: Comparison) -> Manifest:
    """The Job `<name>-gate-<revision>-<attempt>`.

    Raises:
        errors.InvalidSpec: the user's pod template holds what Pod Security `restricted` forbids.
    """
    template = merge_pod_template(build_pod_template(workload), workload.pod_template)
    job = build_child(workload.owner, ("batch/v1", "Job"), comparison.name)
    job["spec"] = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": int(comparison.gate.deadline.total_seconds()),
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "template": _turn_into_a_run(template, workload.owner, comparison),
    }
    return job


def _turn_into_a_run(template: Manifest, owner: Owner, comparison: Comparison) -> Manifest:
    """The pod that is never selected by a Service, never scraped, never probed, and ends."""
    metadata, spec = template["metadata"], template["spec"]
    users = {key: text for key, text in metadata["labels"].items() if key not in _LABELS_OF_SERVING}
    annotations = {
        k: v for k, v in metadata.get("annotations", {}).items() if not k.startswith("prometheus.io/")
    }
    containers = [
        _ask(container, comparison) if container["name"] == names.CONTAINER else container
        for container in spec["containers"]
    ]
    return {
        "metadata": {"labels": users | build_labels(owner), "annotations": annotations},
        "spec": spec
        | {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "containers": containers,
            "volumes": [
                *(volume for volume in spec["volumes"] if volume["name"] not in _VOLUMES_OF_SERVING),
                *_build_volumes(owner, comparison),
            ],
        },
    }


def _ask(container: Manifest, comparison: Comparison) -> Manifest:
    asked = {key: value for key, value in container.items() if key not in _NOT_OF_A_JOB}
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] not in _VOLUMES_OF_SERVING]
    mounts += [
        {"name": f"gate-{part}", "mountPath": f"{GATE_DIR}/{part}", "readOnly": True}
        for part in (_EXAMPLES, *comparison.arms)
    ]
    return asked | {"args": _build_arguments(comparison), "volumeMounts": mounts}


def _build_arguments(comparison: Comparison) -> list[str]:
    gate = comparison.gate
    arguments = ["eval", "--dataset", f"{GATE_DIR}/{_EXAMPLES}/{gate.dataset.config_map.key}"]
    arguments += ["--canary", _get_path(names.Track.CANARY), "--metric", gate.metric]
    arguments += ["--stable", _get_path(names.Track.STABLE)] if comparison.stable else []
    arguments += ["--stable-may-differ"] if comparison.stable and comparison.is_other_code else []
    arguments += ["--max-drop", format_percent(gate.max_drop), "--mode", comparison.mode.value]
    arguments += ["--confidence", str(comparison.confidence)]
    return arguments + (["--min-score", str(gate.min_score)] if gate.min_score is not None else [])


def _get_path(arm: names.Track) -> str:
    return f"{GATE_DIR}/{arm.value}/{names.PROGRAM_KEY}"


def _build_volumes(owner: Owner, comparison: Comparison) -> list[Manifest]:
    copies = {arm: names.program_name(owner.name, sha256) for arm, sha256 in comparison.arms.items()}
    maps = {_EXAMPLES: comparison.gate.dataset.config_map.name} | copies
    return [{"name": f"gate-{part}", "configMap": {"name": name}} for part, name in maps.items()]
