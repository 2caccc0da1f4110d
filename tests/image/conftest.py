"""buildah's storage, which one process holds at a time."""

from collections.abc import Iterator

import pytest
from tests.cluster.buildah_images import Storage, open_storage


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    with open_storage() as storage:
        yield storage
