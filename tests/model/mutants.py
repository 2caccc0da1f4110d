"""Faults made by hand in the core and in the order of writes: each must be found, else an invariant is missing.

A mutant patches the shipped code (or the checker's rules of writing) and names the check that finds it.
"""

from tests.model.checker import Checker, Result, Rules
from tests.model.convergence import measure
from tests.model.events import Bounds, Budget
from tests.model.faults import (
    adopt_anything,
    all_of,
    bake_is_over,
    blind_is_good,
    blind_is_late,
    clock_without_pods,
    close_while_rolling_back,
    drop_stable_at_full,
    end_without_table,
    forget_nonces,
    forget_to_reject,
    forget_undone,
    instead,
    keep_rejected,
    look_whenever,
    no,
    no_bake,
    nothing,
    open_without_revision,
    overshoot,
    pick_a_used_slot,
    pointer_first,
    replaced,
    stable_moves_in_the_bake,
    supersede_a_queue,
    table_before_record,
    without,
    yes,
)
from tests.model.mutant import Mutant
from tests.model.own_mutants import OWN_MUTANTS
from tests.model.worlds import Check, build_full_slots, build_promoted, build_settled

from dspy_operator.api.names import Command
from dspy_operator.rollout import attempt, decide, ending, idle, world

MOST_STATES = 60_000

EVERYTHING = ("D", "R", "T", "slot", "V", "copy")
"""Kinds of objects."""


# --- bounds and the list -----------------------------------------------------------------------------------

_ONE = Bounds(Budget(edits=1), specs="b")
_TWO = Bounds(Budget(edits=2), specs="bc")
ONE_EDIT = Check("one edit", build_settled(), _ONE)
TWO_EDITS = Check("two edits", build_settled(), _TWO)
BACK_AND_FORTH = Check("two edits, back", build_settled(), Bounds(Budget(edits=2), specs="ab"))
QUEUE = Check("queue", build_settled(queue=True), _TWO)
FULL = Check("full slots", build_full_slots(), _TWO)
LOSS = Check("a lost record", build_settled(), Bounds(Budget(edits=1, losses=1), specs="b"))
PAUSE = Check("a pause", build_settled(), Bounds(Budget(edits=2), specs="b", pauses=True))
PROMOTE = Check("promote", build_settled(), Bounds(Budget(edits=1, commands=1), "b", (Command.PROMOTE,)))
UNDO = Check("undo", build_promoted(), Bounds(Budget(commands=1), "b", (Command.UNDO,)))
FAST = Check("back to the last one", build_promoted(), Bounds(Budget(edits=1), specs="a"))
TAKEOVER = Check("a take-over", build_settled(), Bounds(Budget(edits=2, takeovers=1), specs="ab"))

_OPEN = "an_attempt_opens"

MUTANTS = (
    Mutant(
        "weight before capacity",
        replaced((world, "is_canary_ready"), (attempt, "is_canary_ready"), by=yes),
        "S4",
        18,
        ONE_EDIT,
    ),
    Mutant("a raise before the pods have it", replaced((world, "is_canary_ready"), by=yes), "S2", 21, LOSS),
    Mutant(
        "free without confirmation",
        all_of(replaced((idle, "is_settled"), by=yes), replaced((world, "is_in_use"), by=pick_a_used_slot)),
        "W6",
        41,
        FULL,
    ),
    Mutant("no data is a pass", replaced((decide, "take_look"), by=blind_is_good), "S16", 10, ONE_EDIT),
    Mutant(
        "free stable in the bake",
        replaced((attempt, "find_wanted_split"), by=drop_stable_at_full),
        "S3",
        33,
        ONE_EDIT,
    ),
    Mutant(
        "stable before the record", instead("the_gate_is_open", stable_moves_in_the_bake), "S8", 38, ONE_EDIT
    ),
    Mutant(
        "the table before the rollback's record",
        instead("the_evidence_is_against_it", table_before_record),
        "W3",
        25,
        ONE_EDIT,
    ),
    Mutant("the table before every record", nothing, "S4", 20, ONE_EDIT, Rules(record_first=False)),
    Mutant(
        "close before the end",
        instead("it_is_rolling_back", lambda _: close_while_rolling_back),
        "S10",
        12,
        BACK_AND_FORTH,
    ),
    Mutant("end before the table", instead("it_is_rolling_back", end_without_table), "S7", 26, TWO_EDITS),
    Mutant("open what is rejected", without("the_spec_is_rejected"), "S5", 33, ONE_EDIT),
    Mutant("reject nothing", replaced((ending, "_reject"), by=forget_to_reject), "S5", 15, ONE_EDIT),
    Mutant("a promotion frees nobody", instead("the_attempt_is_over", keep_rejected), "S5", 55, TWO_EDITS),
    Mutant("an undo rejects nothing", replaced((ending, "_reject"), by=forget_undone), "S5", 22, UNDO),
    Mutant(
        "restart a lost record",
        replaced((ending, "_is_table_ahead"), (ending, "_is_forged"), by=no),
        "S7",
        25,
        LOSS,
    ),
    Mutant(
        "the nonce in a second write",
        replaced((attempt, "build_handled"), by=forget_nonces),
        "S4",
        24,
        PROMOTE,
    ),
    Mutant(
        "open without consuming nonces", replaced((idle, "build_handled"), by=forget_nonces), "S14", 9, UNDO
    ),
    Mutant("the pointer before the attempt", instead(_OPEN, lambda _: pointer_first), "S10", 3, ONE_EDIT),
    Mutant("open without V", instead(_OPEN, lambda _: open_without_revision), "S2", 5, ONE_EDIT),
    Mutant("adopt any half-open attempt", instead(_OPEN, lambda _: adopt_anything), "S10", 8, TWO_EDITS),
    Mutant("ignore the evidence", without("the_evidence_is_against_it"), "L3", 0, ONE_EDIT),
    Mutant("ignore a pause", without("it_is_held"), "1.4", 20, PAUSE),
    Mutant("ignore a moved spec", without("the_spec_moved_on"), "S15", 20, TWO_EDITS),
    Mutant("ignore the queue", instead("the_spec_moved_on", supersede_a_queue), "1.4", 13, QUEUE),
    Mutant(
        "the step's clock before the pods",
        instead("the_weight_takes_effect", clock_without_pods),
        "S4",
        22,
        ONE_EDIT,
    ),
    Mutant("the bake before the pods", instead("it_is_promoting", clock_without_pods), "S4", 34, ONE_EDIT),
    Mutant("no bake", instead("it_is_promoting", no_bake), "S4", 35, ONE_EDIT),
    Mutant("no fast bake", replaced((attempt, "_bake_fast"), by=bake_is_over), "S4", 19, FAST),
    Mutant("looks before the weight", replaced((decide, "take_look"), by=look_whenever), "S4", 21, ONE_EDIT),
    Mutant("more than the record", instead("table_differs", overshoot), "S4", 22, ONE_EDIT),
    Mutant("blind is late", instead("it_never_became_ready", blind_is_late), "S16", 14, ONE_EDIT),
    Mutant("never write the table", without("table_differs"), "L1", 0, ONE_EDIT),
    Mutant("never hand out programs", without("a_program_is_missing"), "L1", 0, ONE_EDIT),
    Mutant("writes bound to nothing", nothing, "S10", 11, TAKEOVER, Rules(unbound=EVERYTHING)),
    Mutant("D bound to nothing", nothing, "S10", 11, TAKEOVER, Rules(unbound=("D",))),
    Mutant("R bound to nothing", nothing, "S7", 16, TAKEOVER, Rules(unbound=("R",))),
    Mutant("T bound to nothing", nothing, "S7", 29, TAKEOVER, Rules(unbound=("T",))),
    Mutant("no stamp", without("the_epoch_is_new"), "S7", 23, TAKEOVER),
    *OWN_MUTANTS,
)


def find(mutant: Mutant) -> Result:
    """The first broken rule of safety, else the first state that does not come to rest. The patch is in place."""
    result = Checker(mutant.check.start, mutant.check.bounds, mutant.rules).run(most=MOST_STATES)
    if not result.broken:
        result.broken = measure(result.list_reached()).broken
    return result
