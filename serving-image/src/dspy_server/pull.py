"""The mounted pull secret: a docker configuration with logins of hosts, or keys of an object store.

Read at each fetch, so that a rotated secret is used at once. What it holds appears in no message.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dspy_server.errors import SourceError
from dspy_server.uris import Scheme

MAX_FILE_BYTES: Final = 1 << 20
DOCKER_FILES: Final = (".dockerconfigjson", "config.json")
STORE_PREFIXES: Final[Mapping[Scheme, str]] = {Scheme.S3: "AWS_", Scheme.GS: "GOOGLE_"}


@dataclass(frozen=True)
class Login:
    """Who the server says it is to one host."""

    username: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """The value of `Authorization` for basic authentication."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")


def find_login(folder: Path, host: str) -> Login | None:
    """The login for `host[:port]` in the docker configuration of a mounted Secret, if there is one.

    Raises:
        SourceError: the file is no docker configuration.
    """
    for name in DOCKER_FILES:
        text = _find_text(folder / name)
        if text is not None:
            try:
                return _find_entry(json.loads(text), host)
            except (ValueError, TypeError, AttributeError, binascii.Error) as exc:
                raise SourceError(f"the pull secret's {name} is not a docker configuration") from exc
    return None


def get_store_options(folder: Path, scheme: Scheme) -> dict[str, str]:
    """The keys of a mounted Secret that configure an object store, such as `AWS_ACCESS_KEY_ID`, in lower case."""
    prefix = STORE_PREFIXES[scheme]
    found = {path.name.lower(): _find_text(path) for path in sorted(folder.glob(f"{prefix}*"))}
    return {name: text.strip() for name, text in found.items() if text is not None}


def _find_text(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_FILE_BYTES)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise SourceError(f"the pull secret's {path.name} cannot be read") from exc


def _find_entry(config: Mapping[str, Any], host: str) -> Login | None:
    for name, entry in config.get("auths", {}).items():
        if _get_host(name) != host:
            continue
        if entry.get("auth"):
            username, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
            return Login(username, password)
        return Login(str(entry["username"]), str(entry["password"])) if "username" in entry else None
    return None


def _get_host(name: str) -> str:
    """`docker login` also writes whole URLs, such as `https://index.docker.io/v1/`."""
    host = name.partition("://")[2] or name
    host = host.partition("/")[0].lower()
    return "docker.io" if host in {"index.docker.io", "registry-1.docker.io"} else host
