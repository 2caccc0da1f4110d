"""Wires settings, clients and reconciler, then runs kopf: `dspy-operator run`, and `dspy-operator crds`."""

import asyncio
import contextlib
import logging
import random
import signal
import sys
import time
from typing import Any

import click
import kopf
from pydantic import ValidationError

from dspy_operator.api.crd import render_crds
from dspy_operator.handlers.health import Health, serve_health
from dspy_operator.handlers.watch import build_registry, build_settings
from dspy_operator.kube.client import Client
from dspy_operator.kube.events import EventRecorder
from dspy_operator.kube.lease import Elector, new_identity
from dspy_operator.kube.resources import DSPYDEPLOYMENTS
from dspy_operator.metrics.reader import PrometheusReader
from dspy_operator.reconcile.assembly import Ports, build_reconciler
from dspy_operator.reconcile.reconciler import Reconciler
from dspy_operator.settings import OperatorSettings
from dspy_operator.telemetry import Telemetry

log = logging.getLogger("dspy_operator")

FAILED = 1
"""Exit status when a part of the process failed: the kubelet starts it again."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dspy-operator")
def main() -> None:
    """Roll out compiled DSPy programs on Kubernetes."""


@main.command()
@click.option("--namespace", help="Watch this namespace only.")
def run(namespace: str | None) -> None:
    """Run the operator, as its pod does. Settings come from DSPY_OPERATOR_… variables."""
    try:
        settings = OperatorSettings(namespace=namespace) if namespace else OperatorSettings()
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = "_".join(str(part) for part in problem["loc"]).upper()
            click.echo(f"DSPY_OPERATOR_{name}: {problem['msg']}", err=True)
        sys.exit(2)
    _set_up_logging(settings)
    asyncio.run(operate(settings))


@main.command()
def crds() -> None:
    """Print the CustomResourceDefinitions."""
    click.echo("---\n".join(render_crds().values()), nl=False)


async def operate(settings: OperatorSettings) -> None:
    """Hold the Lease and reconcile until SIGTERM; a lost Lease ends the process at once."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    telemetry = Telemetry()
    telemetry.serve(settings.metrics_port)
    client = await Client.from_environment(on_request=telemetry.count_request)
    # Connections are few: a renewal must not queue behind passes.
    leases = await Client.from_environment(on_request=telemetry.count_request)
    health = Health(is_ready=lambda: client.server_time > 0)
    runner = await serve_health(health, settings.health_port)
    prometheus = PrometheusReader(
        settings.prometheus_url, token_file=settings.prometheus_token_file, on_query=telemetry.count_query
    )
    identity = new_identity(settings.pod_uid)
    events = EventRecorder(client, identity)
    elector = _build_elector(leases, identity, settings)
    background = [
        asyncio.create_task(health.beat(), name="health"),
        asyncio.create_task(events.run(), name="events"),
    ]
    try:
        if await _acquire(elector, client, settings, stop):
            ports = Ports(client, prometheus, elector, events, telemetry)
            reconciler = build_reconciler(ports, settings, monotonic=time.monotonic, jitter=_draw_jitter)
            await _reconcile(reconciler, identity, settings, stop)
    finally:
        await elector.release()
        await events.drain()
        for task in background:
            task.cancel()
        prometheus.close()
        await runner.cleanup()
        await leases.close()
        await client.close()


async def _acquire(elector: Elector, client: Client, settings: OperatorSettings, stop: asyncio.Event) -> bool:
    """Wait for the Lease, or for the end. A follower is ready as soon as the API server answers it."""
    with contextlib.suppress(Exception):
        await client.list_(DSPYDEPLOYMENTS, settings.namespace, metadata_only=True)
    waiting = [asyncio.create_task(elector.acquire()), asyncio.create_task(stop.wait())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    return elector.is_valid() and not stop.is_set()


async def _reconcile(
    reconciler: Reconciler, identity: str, settings: OperatorSettings, stop: asyncio.Event
) -> None:
    """Workers, the sampler and kopf's watches, until `stop`; whichever ends first ends all."""
    where: dict[str, Any] = (
        {"namespaces": [settings.namespace]} if settings.namespace else {"clusterwide": True}
    )
    # Without an identity kopf asks for the user's name, and user 65532 has none.
    where["identity"] = identity
    watching = kopf.operator(
        registry=build_registry(reconciler.note),
        settings=build_settings(),
        stop_flag=stop,
        **where,
    )
    tasks = [asyncio.create_task(watching, name="watches"), asyncio.create_task(stop.wait(), name="stop")]
    tasks += [asyncio.create_task(work, name=name) for name, work in reconciler.list_tasks(settings.workers)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    failed = [task for task in done if task.exception() is not None]
    for task in failed:
        log.error("%s failed: ending the process", task.get_name(), exc_info=task.exception())
    stop.set()
    await asyncio.wait(pending, timeout=5)
    for task in pending:
        task.cancel()
    await asyncio.gather(*done, *pending, return_exceptions=True)
    if failed:
        raise SystemExit(FAILED)


def _draw_jitter() -> float:
    """What failed together is not tried again together."""
    return random.uniform(0.8, 1.2)  # noqa: S311  no secret


def _build_elector(client: Client, identity: str, settings: OperatorSettings) -> Elector:
    return Elector(
        client,
        settings.lease_namespace,
        settings.lease_name,
        identity,
        pod_uid=settings.pod_uid,
        duration=settings.lease_duration,
        renew_deadline=settings.lease_renew_deadline,
        retry=settings.lease_retry,
    )


def _set_up_logging(settings: OperatorSettings) -> None:
    kopf.configure(
        debug=settings.log_level == "debug",
        log_format=kopf.LogFormat.JSON if settings.log_json else kopf.LogFormat.FULL,
    )
    logging.getLogger().setLevel(settings.log_level.upper())
    logging.getLogger("kopf").setLevel(logging.WARNING)


if __name__ == "__main__":
    main()
