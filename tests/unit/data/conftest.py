"""The misbehaving image server, for the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.helpers.image_server import ImageServer, running
from tests.helpers.images import encoded, smooth_image


@pytest.fixture(scope="module")
def jpegs() -> list[bytes]:
    """Forty different JPEGs."""
    return [encoded(smooth_image(seed), quality=90) for seed in range(40)]


@pytest.fixture
def server(jpegs: list[bytes]) -> Iterator[ImageServer]:
    """An image server on loopback."""
    with running(ImageServer(jpegs)) as found:
        yield found
