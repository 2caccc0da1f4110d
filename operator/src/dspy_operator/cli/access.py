"""The API server as the commands use it: reads of two kinds and their pods, one write of annotations."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspy_operator.api import names
from dspy_operator.cli.exits import CliError, Exit
from dspy_operator.cli.kubeconfig import find_namespace
from dspy_operator.cli.objects import mapping, text
from dspy_operator.cli.views.build import deployment_view, owned_rollouts
from dspy_operator.errors import Conflict, OperatorError, Transient

if TYPE_CHECKING:
    from dspy_operator.cli.views.model import Deployment
    from dspy_operator.kube.client import Client

Object = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """Where a command goes; None means what the kubeconfig says."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None


class Cluster:
    """One API server and one namespace.

    Every method raises what `kube.client.Client` raises; `get_` raises `CliError` where there is none.
    """

    def __init__(self, client: "Client", namespace: str) -> None:
        self.namespace = namespace
        self._client = client

    @property
    def now(self) -> float:
        """The API server's clock, epoch seconds; 0.0 before the first answer."""
        return self._client.server_time

    async def get_deployment(self, name: str) -> Object:
        """Return a DSPyDeployment of the namespace."""
        from dspy_operator.kube.resources import DSPYDEPLOYMENTS  # noqa: PLC0415  keeps `--help` quick

        found = await self._client.find(DSPYDEPLOYMENTS, self.namespace, name)
        if found is None:
            raise CliError(
                f"There is no DSPyDeployment {name} in namespace {self.namespace}: "
                "see `kubectl dspy get -A`, or name the namespace with -n.",
                Exit.USAGE,
            )
        return found

    async def list_deployments(self, *, everywhere: bool) -> list[Object]:
        """List the DSPyDeployments of the namespace, or of all."""
        from dspy_operator.kube.resources import DSPYDEPLOYMENTS  # noqa: PLC0415  as above

        return await self._client.list_(DSPYDEPLOYMENTS, None if everywhere else self.namespace)

    async def list_rollouts(self, deployment: Mapping[str, Any]) -> list[Object]:
        """List the attempts of a DSPyDeployment, the oldest first."""
        listed = [
            await self.find_rollout(deployment, name) for name in await self._list_rollout_names(deployment)
        ]
        return [rollout for rollout in listed if rollout is not None]

    async def find_rollout(self, deployment: Mapping[str, Any], name: str) -> Object | None:
        """Find an attempt by its name."""
        from dspy_operator.kube.resources import DSPYROLLOUTS  # noqa: PLC0415  as above

        return await self._client.find(DSPYROLLOUTS, text(mapping(deployment, "metadata"), "namespace"), name)

    async def find_current_rollout(self, deployment: Mapping[str, Any]) -> Object | None:
        """Find the open attempt, or else the last one."""
        name = text(mapping(deployment, "status", "canary"), "rollout")
        if not name:
            # Only names are listed: a record may hold 64 KiB of looks.
            name = next(reversed(await self._list_rollout_names(deployment)), "")
        return await self.find_rollout(deployment, name) if name else None

    async def list_pods(self, deployment: Mapping[str, Any]) -> list[Object]:
        """List the serving pods."""
        from dspy_operator.kube.resources import PODS  # noqa: PLC0415  as above

        metadata = mapping(deployment, "metadata")
        labels = {
            names.LABEL_NAME: names.APP_NAME,
            names.LABEL_INSTANCE: text(metadata, "name"),
            names.LABEL_COMPONENT: names.COMPONENT_SERVER,
        }
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return await self._client.list_(PODS, text(metadata, "namespace"), labels=selector)

    async def get_view(self, name: str) -> "Deployment":
        """Return all that is shown of a DSPyDeployment."""
        deployment = await self.get_deployment(name)
        rollout = await self.find_current_rollout(deployment)
        return deployment_view(deployment, rollout, await self.list_pods(deployment))

    async def annotate(self, name: str, annotation: str, value: str) -> Object:
        """Set one annotation of a DSPyDeployment."""
        from dspy_operator.kube.resources import DSPYDEPLOYMENTS  # noqa: PLC0415  as above

        return await self._client.annotate(DSPYDEPLOYMENTS, self.namespace, name, {annotation: value})

    async def _list_rollout_names(self, deployment: Mapping[str, Any]) -> list[str]:
        from dspy_operator.kube.resources import DSPYROLLOUTS  # noqa: PLC0415  as above

        namespace = text(mapping(deployment, "metadata"), "namespace")
        listed = await self._client.list_(DSPYROLLOUTS, namespace, metadata_only=True)
        return [text(mapping(found, "metadata"), "name") for found in owned_rollouts(listed, deployment)]


@asynccontextmanager
async def open_cluster(target: Target) -> AsyncIterator[Cluster]:
    """Connect; errors of the API server become one sentence that says what to do."""
    from dspy_operator.kube.client import Client  # noqa: PLC0415  the client alone takes a second to import

    try:
        client = await Client.from_environment(target.context, kubeconfig=target.kubeconfig)
        try:
            yield Cluster(client, target.namespace or find_namespace(target.context, target.kubeconfig))
        finally:
            await client.close()
    except OperatorError as error:
        raise CliError(explain(error)) from error


def explain(error: OperatorError) -> str:
    """Say what an error of the API server means for the person at the terminal."""
    match error:
        case Transient():
            return f"The API server did not answer: {error}. Try again; --context chooses another cluster."
        case Conflict():
            return f"It is gone: {error}. Is the operator installed in this cluster?"
        case _:
            return f"The API server refused: {error}."
