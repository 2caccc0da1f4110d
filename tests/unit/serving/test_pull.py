import base64
import json
from pathlib import Path
from typing import Any

import pytest

from dspy_server.errors import SourceError
from dspy_server.pull import Login, find_login, get_store_options
from dspy_server.uris import Scheme

ENTRY = {"auth": base64.b64encode(b"robot:hunter:2").decode()}


def write(folder: Path, auths: Any, name: str = ".dockerconfigjson") -> None:
    (folder / name).write_text(json.dumps({"auths": auths}))


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("r.example:5000", "r.example:5000"),
        ("https://R.example/v1/", "r.example"),
        ("https://index.docker.io/v1/", "docker.io"),
    ],
)
def test_a_login_is_found_as_docker_writes_it(key: str, host: str, tmp_path: Path) -> None:
    write(tmp_path, {"other.example": {"auth": "eDp5"}, key: ENTRY})
    assert find_login(tmp_path, host) == Login("robot", "hunter:2")
    assert find_login(tmp_path, "evil." + host) is None


def test_a_user_and_a_password_do_too(tmp_path: Path) -> None:
    write(tmp_path, {"h": {"username": "robot", "password": "x"}, "empty": {}}, "config.json")
    assert find_login(tmp_path, "h") == Login("robot", "x")
    assert find_login(tmp_path, "empty") is None


def test_no_secret_is_no_login(tmp_path: Path) -> None:
    assert find_login(tmp_path / "missing", "h") is None
    assert get_store_options(tmp_path / "missing", Scheme.S3) == {}


@pytest.mark.parametrize("auths", [3, {"h": 3}, {"h": {"auth": "%%%"}}, {"h": {"auth": "hunter2"}}])
def test_a_broken_configuration_is_an_error_that_shows_none_of_it(auths: Any, tmp_path: Path) -> None:
    write(tmp_path, auths)
    with pytest.raises(SourceError, match="not a docker configuration") as caught:
        find_login(tmp_path, "h")
    assert "hunter2" not in str(caught.value)


def test_a_password_is_in_no_representation() -> None:
    assert "hunter2" not in repr(Login("robot", "hunter2"))


def test_a_store_gets_its_own_keys_only(tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_ACCESS_KEY_ID", "GOOGLE_SERVICE_ACCOUNT_KEY", "other"):
        (tmp_path / name).write_text(f"{name.lower()}-value\n")
    assert get_store_options(tmp_path, Scheme.S3) == {
        "aws_access_key_id": "aws_access_key_id-value",
        "aws_region": "aws_region-value",
    }
    assert list(get_store_options(tmp_path, Scheme.GS)) == ["google_service_account_key"]
