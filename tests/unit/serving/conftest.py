"""Shared by the server's tests: one lean DSPy, a provider that answers from demonstrations, a pod's folders."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.provider.icl_lm import Provider, run_provider
from tests.unit.serving.worlds import World, build_artifact

from dspy_server import compat

compat.configure()


@pytest.fixture(scope="session")
def provider() -> Provider:
    return Provider()


@pytest.fixture(scope="session")
def base_url(provider: Provider) -> Iterator[str]:
    with run_provider(provider) as url:
        yield url


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Stable (rev0) answers billing, the canary (rev1) shipping; no table yet."""
    world = World(tmp_path)
    world.fill_slot(0, build_artifact(tmp_path, "billing"))
    world.fill_slot(1, build_artifact(tmp_path, "shipping"))
    world.routes_file.parent.mkdir()
    return world
