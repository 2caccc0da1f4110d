"""`make demo`: the main job told live on a real cluster. `python -m tests.demo [down]`.

`story` has what happens, `screen` how it is told, `summary` what was measured.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from contextlib import suppress

from tests.cluster.builds import tool
from tests.cluster.choose import choose
from tests.cluster.processes import ClusterError
from tests.demo.report import NAMESPACE
from tests.demo.story import StoryError, tell_story
from tests.e2e.harness.artifacts import ROOT
from tests.e2e.harness.installation import MONITORING, OPERATOR_NAMESPACE, RELEASE
from tests.e2e.harness.waiting import NotSeenError


def down() -> None:
    """Remove what the demo made: from a cluster of one's own object by object, else the cluster with all in it."""
    cluster = choose()
    if cluster.name == "existing":
        kubectl = (tool("kubectl"), "--kubeconfig", cluster.kubeconfig)
        helm = (tool("helm"), "--kubeconfig", cluster.kubeconfig, "--namespace", OPERATOR_NAMESPACE)
        with suppress(subprocess.CalledProcessError):  # no release: removed already
            subprocess.run([*helm, "uninstall", RELEASE], check=True)
        namespaces = [f"namespace/{name}" for name in (NAMESPACE, OPERATOR_NAMESPACE, MONITORING)]
        subprocess.run([*kubectl, "delete", "--ignore-not-found", *namespaces], check=True)
        print(
            "The custom resource definitions stay: deleting them deletes every DSPyDeployment of the cluster."
        )
    cluster.stop()
    shutil.rmtree(ROOT / "build/demo", ignore_errors=True)


def main() -> None:
    """Tell the story, or take everything down; exit 1 when the story did not end as it should."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["up", "down"], default="up")
    try:
        if parser.parse_args().what == "down":
            down()
        else:
            tell_story()
    except (ClusterError, StoryError, NotSeenError) as error:
        sys.exit(f"\nThe demo did not end as it should: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
