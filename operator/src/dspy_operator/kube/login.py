"""Where the API server is and who we are: the pod's service account, or a kubeconfig.

Used by `client.py` at the start and again after a 401.
"""

import os
from pathlib import Path
from typing import Final

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from dspy_operator.errors import Permanent

DEFAULT_KUBECONFIG: Final = str(Path.home() / ".kube" / "config")


async def load_configuration(context: str | None = None, kubeconfig: str | None = None) -> Configuration:
    """Find the API server as kubectl does: a named file, `KUBECONFIG`, the pod's account, the default file.

    A service account's token file is read again every minute (the kubelet replaces it hourly); a
    kubeconfig's exec plugin runs again at each call of this function.

    Raises:
        Permanent: there is no usable configuration.
    """
    configuration = Configuration()
    file = kubeconfig or os.environ.get("KUBECONFIG")
    try:
        if context is None and not file and os.environ.get("KUBERNETES_SERVICE_HOST"):
            load_incluster_config(client_configuration=configuration)
        else:
            await load_kube_config(
                config_file=file or DEFAULT_KUBECONFIG,
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
    except (ConfigException, OSError) as error:
        raise Permanent(f"no Kubernetes configuration: {error}") from error
    return configuration
