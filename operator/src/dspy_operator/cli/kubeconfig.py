"""Which namespace a command means when none is given: that of the context, as kubectl has it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dspy_operator.cli.objects import mapping, mappings, text

DEFAULT_FILE = Path("~/.kube/config")
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def find_namespace(context: str | None, kubeconfig: str | None) -> str:
    """Return the context's namespace, in a pod without a kubeconfig the pod's, else `default`."""
    files = list_files(kubeconfig, os.environ.get("KUBECONFIG", ""))
    found = namespace_of([_read(file) for file in files if file.is_file()], context)
    if not found and not files and POD_NAMESPACE.is_file():
        found = POD_NAMESPACE.read_text().strip()
    return found or "default"


def list_files(option: str | None, variable: str) -> list[Path]:
    """List the kubeconfig files in force: the option's, the variable's, or the default one if it is there."""
    if option:
        return [Path(option)]
    if variable:
        return [Path(part) for part in variable.split(os.pathsep) if part]
    return [file] if (file := DEFAULT_FILE.expanduser()).is_file() else []


def namespace_of(configs: Sequence[Mapping[str, Any]], context: str | None) -> str:
    """Return the namespace of a context (None: the current one); empty if it has none. The first file wins. Pure."""
    current = context or next((name for config in configs if (name := text(config, "current-context"))), "")
    for config in configs:
        for named in mappings(config, "contexts"):
            if text(named, "name") == current:
                return text(mapping(named, "context"), "namespace")
    return ""


def _read(file: Path) -> Mapping[str, Any]:
    import yaml  # noqa: PLC0415  keeps `--help` quick

    parsed = yaml.safe_load(file.read_text(encoding="utf-8"))
    return parsed if isinstance(parsed, dict) else {}
