"""Shared by the reader's tests: one reading of a scripted Prometheus, its reader closed afterwards."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.unit.operator.metrics.answers import INTEREST
from tests.unit.operator.metrics.scripted import Scripted

from dspy_operator.metrics.reader import PrometheusReader
from dspy_operator.metrics.readings import Interest


@pytest.fixture
async def read() -> AsyncIterator[Callable[..., Any]]:
    readers: list[PrometheusReader] = []

    async def read_from(script: Scripted, *interests: Interest, deadline: float = 5.0, **kwargs: Any) -> Any:
        reader = PrometheusReader(script.url, deadline=deadline)
        readers.append(reader)
        return await reader.read(interests or [INTEREST], **kwargs)

    yield read_from
    for reader in readers:
        reader.close()
