"""What to do next: a list of rules that reads like the specification; the first that applies wins.

`decide` looks at nothing but its observation: `reconcile/` reads the world before it and acts after it.
"""

from collections.abc import Callable
from dataclasses import replace

from dspy_operator.api.reasons import Reason
from dspy_operator.rollout import attempt, ending, gate, idle, orders, preview, protect, world
from dspy_operator.rollout.actions import Decision
from dspy_operator.rollout.look import take_look
from dspy_operator.rollout.model import Observation

Rule = Callable[[Observation], Decision | None]

IDLE: tuple[Rule, ...] = (
    idle.has_no_stable_revision,
    idle.stable_was_never_ready,
    idle.stable_revision_is_not_recorded,
    orders.to_an_idle_deployment,
    world.a_program_is_missing,
    world.table_differs,
    world.a_child_differs,
    idle.an_attempt_has_no_pointer,
    gate.a_run_is_left,
    idle.first_pod_is_ready,
    world.pods_have_not_seen_the_table,
    idle.stable_revision_is_lost,
    idle.a_workload_is_unused,
    idle.undo_is_asked_for,
    idle.the_spec_cannot_be_done,
    idle.the_spec_is_stable,
    idle.the_spec_is_rejected,
    idle.the_artifact_is_not_there,
    idle.nothing_serves,
    idle.it_is_paused,
    idle.the_weight_cannot_be_reached,
    idle.an_attempt_opens,
)
"""No attempt is open."""

OPEN: tuple[Rule, ...] = (
    ending.the_record_is_lost,
    ending.the_phase_is_unknown,
    world.the_epoch_is_new,
    protect.a_revision_is_lost,
    ending.the_attempt_is_over,
    ending.it_is_rolling_back,
    protect.somebody_aborts,
    protect.the_spec_moved_on,
    protect.the_canary_is_refused,
    protect.its_pods_are_denied,
    protect.its_pods_are_dead,
    gate.the_examples_are_against_it,
    protect.the_evidence_is_against_it,
    protect.it_never_became_ready,
    orders.to_an_open_attempt,
    world.a_program_is_missing,
    world.table_differs,
    world.a_child_differs,
    world.pods_have_not_seen_the_table,
    attempt.everything_is_sent_while_held,
    attempt.it_is_held,
    attempt.it_is_preparing,
    gate.it_is_compared,
    attempt.a_person_promotes,
    preview.the_preview_is_over,
    attempt.the_weight_takes_effect,
    attempt.it_is_promoting,
    attempt.the_gate_is_open,
    attempt.it_goes_on,
)
"""An attempt is open: what protects comes before what progresses."""


def decide(seen: Observation) -> Decision:
    """Say what to record and what to do now.

    Raises:
        AssertionError: no rule applied, which would be a hole in the lists above.
    """
    if seen.deleting:
        return Decision(Reason.DELETING, "Being deleted")
    judging = take_look(seen)
    if judging is not seen.judging:
        seen = replace(seen, judging=judging)
    for rule in OPEN if seen.record.pointer else IDLE:
        decision = rule(seen)
        if decision is not None:
            return decision
    raise AssertionError("no rule applied")
