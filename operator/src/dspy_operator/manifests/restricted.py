"""What Pod Security `restricted` forbids in a user's pod template, found before the API server is asked.

Source: the Pod Security Standards of Kubernetes 1.34. Missing settings are no matter: ours are underneath.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dspy_operator import errors

_VOLUME_KINDS: Final = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_CONTAINER_LISTS: Final = ("containers", "initContainers")
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_HOOKS: Final = ("postStart", "preStop")
RESTRICTED: Final = "is forbidden by Pod Security `restricted`"
_SAFE_SYSCTLS: Final = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
_SELINUX_TYPES: Final = frozenset(
    {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
)


def check_restricted(template: Mapping[str, Any], field: str) -> None:
    """Pass, or refuse the first thing that is forbidden; the template has passed `check_shapes`.

    Raises:
        errors.InvalidSpec: naming the field below `field`.
    """
    for path, sentence in _list_findings(template):
        raise errors.InvalidSpec(f"{field}.{path}", sentence)


def _list_findings(template: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    spec = template.get("spec") or {}
    yield from _list_in_pod(spec)
    for index, volume in enumerate(spec.get("volumes") or []):
        yield from _list_in_volume(volume, f"spec.volumes[{index}]")
    for kind in _CONTAINER_LISTS:
        for index, container in enumerate(spec.get(kind) or []):
            yield from _list_in_container(container, f"spec.{kind}[{index}]")


def _list_in_pod(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"spec.{key}", RESTRICTED
    if spec.get("automountServiceAccountToken"):
        yield "spec.automountServiceAccountToken", "serving pods get no API token"
    if spec.get("ephemeralContainers"):
        yield "spec.ephemeralContainers", "belongs to a running pod"
    security = _get_object(spec, "securityContext")
    yield from _list_in_security(security, "spec.securityContext")
    for index, sysctl in enumerate(security.get("sysctls") or []):
        if sysctl.get("name") not in _SAFE_SYSCTLS:
            yield f"spec.securityContext.sysctls[{index}]", RESTRICTED


def _list_in_volume(volume: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for kind in volume.keys() - {"name"}:
        if kind not in _VOLUME_KINDS:
            yield f"{path}.{kind}", RESTRICTED


def _list_in_container(container: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    security = _get_object(container, "securityContext")
    here = f"{path}.securityContext"
    yield from _list_in_security(security, here)
    for key in ("privileged", "allowPrivilegeEscalation"):
        if security.get(key):
            yield f"{here}.{key}", RESTRICTED
    if security.get("procMount", "Default") != "Default":
        yield f"{here}.procMount", RESTRICTED
    yield from _list_in_capabilities(_get_object(security, "capabilities"), f"{here}.capabilities")
    for index, port in enumerate(container.get("ports") or []):
        if port.get("hostPort"):
            yield f"{path}.ports[{index}].hostPort", RESTRICTED
    yield from _list_in_probes(container, path)


def _list_in_security(security: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    if security.get("runAsNonRoot") is False:
        yield f"{path}.runAsNonRoot", RESTRICTED
    if security.get("runAsUser") == 0:
        yield f"{path}.runAsUser", RESTRICTED
    for key in ("seccompProfile", "appArmorProfile"):
        if _get_object(security, key).get("type") not in {None, "RuntimeDefault", "Localhost"}:
            yield f"{path}.{key}.type", RESTRICTED
    selinux = _get_object(security, "seLinuxOptions")
    if selinux.get("type", "") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{path}.seLinuxOptions", RESTRICTED
    if _get_object(security, "windowsOptions").get("hostProcess"):
        yield f"{path}.windowsOptions.hostProcess", RESTRICTED


def _list_in_capabilities(capabilities: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    if set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield f"{path}.add", RESTRICTED
    if "drop" in capabilities and "ALL" not in (capabilities["drop"] or []):
        yield f"{path}.drop", "must contain ALL"


def _list_in_probes(container: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    lifecycle = _get_object(container, "lifecycle")
    handlers = [(f"{path}.{key}", _get_object(container, key)) for key in _PROBES]
    handlers += [(f"{path}.lifecycle.{key}", _get_object(lifecycle, key)) for key in _HOOKS]
    for where, handler in handlers:
        for action in ("httpGet", "tcpSocket"):
            if _get_object(handler, action).get("host"):
                yield f"{where}.{action}.host", RESTRICTED


def _get_object(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}
