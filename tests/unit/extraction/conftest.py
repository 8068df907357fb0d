"""The misbehaving image server, for the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.helpers.image_server import ImageServer, running
from tests.helpers.images import encoded, smooth_image


@pytest.fixture
def server() -> Iterator[ImageServer]:
    """An image server on loopback."""
    with running(ImageServer([encoded(smooth_image(seed), quality=90) for seed in range(4)])) as found:
        yield found
