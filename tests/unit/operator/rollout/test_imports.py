"""What the core drags in: the judge is plain Python, so that it can be replayed and measured anywhere."""

import subprocess
import sys

LISTING = (
    "import sys, dspy_operator.rollout.judging as judging; "
    "print(*sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
)


def test_the_judge_needs_nothing_but_the_standard_library() -> None:
    bare = subprocess.run(
        [sys.executable, "-c", LISTING], capture_output=True, text=True, check=True, timeout=60
    )
    found = {name for name in bare.stdout.split() if not name.startswith(("_", "sitecustomize"))}
    assert found == {"dspy_operator"}
