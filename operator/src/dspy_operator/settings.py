"""What whoever installs the operator may set, each as an environment variable `DSPY_OPERATOR_<NAME>`.

Read once by `__main__.py`, which hands the values on.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=1, le=65535)]


class OperatorSettings(BaseSettings):
    """The operator's configuration; times in seconds."""

    model_config = SettingsConfigDict(
        env_prefix="DSPY_OPERATOR_", frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    prometheus_url: str = "http://prometheus.monitoring.svc:9090"
    """Where Prometheus, or anything that speaks its query API, answers. Never taken from a resource."""

    prometheus_token_file: Path | None = None
    """A file with a bearer token for Prometheus, read before each query."""

    serving_image: str = ""
    """The image of serving pods whose resource brings its code by `program.source` and names no image."""

    namespace: str | None = None
    """The only namespace to watch; absent: all of them."""

    lease_namespace: str = "dspy-operator"
    """The namespace of the operator's own Lease: the one that it runs in."""

    lease_name: str = "dspy-operator"
    """The Lease that only one operator holds."""

    pod_uid: str = ""
    """The uid of the operator's own pod: its restarted container takes the Lease of the one before at once."""

    lease_duration: Seconds = 15.0
    """How long a holder that falls silent is waited for."""

    lease_renew_deadline: Seconds = 10.0
    """How long a holder tries to renew before it ends itself; less than `lease_duration`."""

    lease_retry: Seconds = 2.0
    """Between two tries, and at most for one; less than `lease_renew_deadline`."""

    checkpoint_interval: Seconds = 60.0
    """At most this often the evidence is written down without a decision; a crash loses no sample, only looks."""

    look_tick: Seconds = 10.0
    """Looks are grouped to this grid, so that one set of queries serves all rollouts; the least `interval`."""

    confirm_poll: Seconds = 1.0
    """Between two questions whether a new routing table is in effect."""

    sample_stale_after: Seconds = 30.0
    """A pod's sample older than this confirms nothing; set it to 2.5 times a scrape interval above 12 s."""

    resync: Seconds = 600.0
    """Every resource is looked at this often without any event."""

    open_resync: Seconds = 75.0
    """The same while an attempt is open or an artifact is missing."""

    workers: Annotated[int, Field(ge=1, le=64)] = 8
    """Resources that are worked on at the same time."""

    metrics_port: Port = 9090
    """Where the operator's own metrics are served."""

    health_port: Port = 8081
    """Where `/healthz` and `/readyz` are served."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe level that is logged."""

    log_json: bool = True
    """One JSON object a line; otherwise lines for people."""

    @model_validator(mode="after")
    def _check_lease(self) -> Self:
        """A holder must have ended itself before the next one may begin."""
        if not self.lease_retry < self.lease_renew_deadline < self.lease_duration:
            raise ValueError("the lease needs retry < renew_deadline < duration")
        return self
