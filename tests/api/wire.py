"""The API server over plain HTTPS: what it answers, word for word, without a client's own opinion."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
import yaml

Object = dict[str, Any]
NAMESPACE = "schema"
GROUP = f"/apis/dspy-operator.io/v1alpha1/namespaces/{NAMESPACE}"
PREFIXES = {
    "DSPyDeployment": "dspydeployments",
    "DSPyRollout": "dspyrollouts",
    "CustomResourceDefinition": "customresourcedefinitions",
    "Deployment": "deployments",
    "ConfigMap": "configmaps",
    "Service": "services",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "ControllerRevision": "controllerrevisions",
    "Namespace": "namespaces",
    "Pod": "pods",
}


class Wire:
    """Requests as an administrator; `strict`: unknown fields are errors, as with `kubectl --validate=strict`."""

    def __init__(self, kubeconfig: Path, directory: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        user, cluster = config["users"][0]["user"], config["clusters"][0]["cluster"]
        self.url = cluster["server"]
        self.session = requests.Session()
        self.session.trust_env = False  # a proxy or another authority in the environment is not meant for it
        files = {}
        for name, source, key in (
            ("ca", cluster, "certificate-authority-data"),
            ("cert", user, "client-certificate-data"),
            ("key", user, "client-key-data"),
        ):
            files[name] = directory / name
            files[name].write_bytes(base64.b64decode(source[key]))
        self.session.verify = str(files["ca"])
        self.session.cert = (str(files["cert"]), str(files["key"]))

    def create(self, obj: Object, *, dry_run: bool = True) -> Object:
        """POST; the answer is the object or the `Status` that says why not."""
        options = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return self.send("POST", get_path(obj), body=obj, query=options)

    def apply(self, obj: Object) -> Object:
        """Server-side apply as the operator does it."""
        options = {"fieldManager": "dspy-operator", "force": "true", "fieldValidation": "Strict"}
        path = f"{get_path(obj)}/{obj['metadata']['name']}"
        return self.send("PATCH", path, body=obj, query=options, kind="application/apply-patch+yaml")

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Object | None = None,
        query: Mapping[str, str] | None = None,
        kind: str = "application/json",
        accept: str = "application/json",
    ) -> Object:
        """One request; whatever the answer's code, its body."""
        headers = {"Content-Type": kind, "Accept": accept}
        answer = self.session.request(
            method, self.url + path, json=body, params=query, headers=headers, timeout=30
        )
        content: Object = answer.json()
        return content


def get_path(obj: Object) -> str:
    """The collection that an object belongs to."""
    version = obj["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = obj["metadata"].get("namespace")
    middle = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{middle}/{PREFIXES[obj['kind']]}"


def list_causes(answer: Object) -> list[tuple[str, str]]:
    """Field and sentence of each complaint of a `Status`."""
    causes = answer.get("details", {}).get("causes", [])
    return [(cause.get("field", ""), cause["message"]) for cause in causes]
