"""The misbehaving image server, for the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.servers.image_server import ImageServer, running
from tests.unit.data.pictures import encoded, picture


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """Forty different JPEGs."""
    return [encoded(picture(seed), quality=90) for seed in range(40)]


@pytest.fixture
def server(pictures: list[bytes]) -> Iterator[ImageServer]:
    """An image server on loopback."""
    with running(ImageServer(pictures)) as found:
        yield found
