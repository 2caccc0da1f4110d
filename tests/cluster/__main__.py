"""The local cluster's commands: `python -m tests.cluster up|build|down|purge|status|images|kubeconfig|tool|api`.

`make cluster`, `make cluster-down`, `make images` and the end-to-end tests come in here.
"""

import argparse
import json
import shutil
import signal
import sys
import time
from pathlib import Path

from tests.cluster.addons import PROMETHEUS_ADDRESS, build_images, install_prometheus
from tests.cluster.api_tier import run_api_server
from tests.cluster.builds import COMPONENTS, list_binaries, tool
from tests.cluster.choose import choose
from tests.cluster.debian import TEST_PACKAGES, debian_program
from tests.cluster.embedded import PROCESSES, EmbeddedCluster, find_owner
from tests.cluster.gateway import get_gateway_api
from tests.cluster.images import GATEWAYS, NAMES, build_local_images, build_store_image
from tests.cluster.kind import KindCluster
from tests.cluster.processes import ClusterError
from tests.cluster.state import get_cache

TEST_PROGRAMS = ("crane", "versitygw", "fake-gcs-server")  # servers of remote artifacts
LOCAL_PROGRAMS = ("etcd", "kube-apiserver", "coredns", "kubectl", "pause", "helm", "prometheus")


def up() -> None:
    """Start the cluster with DNS and Prometheus; prints the kubeconfig's path."""
    started = time.monotonic()
    cluster = choose()
    cluster.start()
    install_prometheus(cluster)
    print(f"The {cluster.name} cluster runs after {time.monotonic() - started:.1f} s.", file=sys.stderr)
    print(
        f"Prometheus, inside: {PROMETHEUS_ADDRESS}. kubectl: {tool('kubectl')}. Kubeconfig:", file=sys.stderr
    )
    print(cluster.kubeconfig)


def build() -> None:
    """Build every program and image that a cluster here needs, and start nothing."""
    with_docker = isinstance(choose(), KindCluster)
    for name in (*(("kind", "kubectl", "helm") if with_docker else LOCAL_PROGRAMS), *TEST_PROGRAMS):
        tool(name)
    for name in TEST_PACKAGES:
        debian_program(name)
    build_store_image()
    get_gateway_api()
    if not with_docker:
        build_local_images((*NAMES, *GATEWAYS))


def down() -> None:
    """End the cluster; binaries and images stay."""
    choose().stop()


def purge() -> None:
    """End the cluster and remove binaries and images too. Go's own build cache is left alone."""
    choose().stop()
    cache = get_cache()
    for child in sorted(cache.iterdir()):
        size = sum(path.lstat().st_size for path in [child, *child.rglob("*")])
        print(f"  {size / 1e6:8.0f} MB  {child}")
    shutil.rmtree(cache)


def status() -> None:
    """Say what runs: exit 0 when all does, else 1."""
    cluster = choose()
    print(f"{cluster.name}, kubeconfig {cluster.kubeconfig}")
    if not isinstance(cluster, EmbeddedCluster):
        return
    owner = find_owner()
    if owner != cluster.directory:
        sys.exit(f"It does not run{f'; that of {owner} does' if owner else ''}.")
    for name in PROCESSES:
        process = cluster.process(name)
        print(f"  {name:<24} {process.find_pid() or 'does not run':<14} {process.log}")
    if not cluster.is_running():
        sys.exit(1)


def images() -> None:
    """Build and load the images; prints their references as JSON."""
    print(json.dumps(build_images(choose()), indent=2))


def api(directory: Path) -> None:
    """Run etcd and an API server in the foreground, until SIGINT or SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with run_api_server(directory, controllers=True) as server:
        print(server.kubeconfig, flush=True)
        signal.pause()


def main() -> None:
    """Parse the command line and run one command."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    simple = {"up": up, "build": build, "down": down, "purge": purge, "status": status, "images": images}
    for name, function in simple.items():
        commands.add_parser(name, help=(function.__doc__ or "").splitlines()[0])
    commands.add_parser("kubeconfig", help="Print the kubeconfig's path.")
    commands.add_parser("tool", help="Print a program's path, built first when needed.").add_argument(
        "name", choices=sorted({*COMPONENTS, *list_binaries()})
    )
    commands.add_parser("api", help="Run only an API server.").add_argument("directory", type=Path)
    arguments = parser.parse_args()
    try:
        match arguments.command:
            case "kubeconfig":
                print(choose().kubeconfig)
            case "tool":
                print(tool(arguments.name))
            case "api":
                api(arguments.directory)
            case command:
                simple[command]()
    except ClusterError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
