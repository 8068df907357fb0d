"""Perceptual fingerprint of an image, and pairs of near-duplicates among many.

Two images are near-duplicates when both hold: the 64-bit perceptual hashes (pHash: the low DCT frequencies of the
gray 32 x 32 image against their median) differ in at most PHASH_BITS bits, and the mean colors of a 4 x 4 grid
differ by at most COLOR_STEP of 255 on average. The hash alone takes a red and a blue shirt of one cut for the same
image; the colors alone take any two shirts of one color for it. docs/data.md has the measured error rates.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from PIL import Image

PHASH_BITS = 6
COLOR_STEP = 6.0
FINGERPRINT_SIDE = 128
"""Pixels of the shorter side from which a fingerprint is taken: the eye of a near-duplicate sees no more."""
_BANDS = PHASH_BITS + 1
_BLOCK = 2048
_DCT = 2 * np.cos(np.pi * (2 * np.arange(32)[None, :] + 1) * np.arange(8)[:, None] / 64)
"""float64[8, 32]: the lowest rows of the unscaled DCT-II."""


def fingerprint(image: Image.Image) -> tuple[str, str]:
    """Perceptual hash (16 hex digits) and colors (96 hex digits) of a decoded RGB or gray image."""
    image = image if image.mode in ("L", "RGB") else image.convert("RGB")
    factor = max(1, min(image.size) // FINGERPRINT_SIDE)
    small = image.reduce(factor) if factor > 1 else image
    rgb = small if small.mode == "RGB" else small.convert("RGB")
    grid = rgb.resize((4, 4), Image.Resampling.BOX)
    return perceptual_hash(rgb), grid.tobytes().hex()


def perceptual_hash(image: Image.Image) -> str:
    """The 64 bits of imagehash's ``phash``, in hex: which of the 8 x 8 lowest DCT frequencies exceed their median.

    Computed here with one 8 x 32 matrix, since scipy's transform costs every worker process a third of a second and
    28 MB to import; a test holds it equal to imagehash, bit for bit.
    """
    small = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    gray = np.frombuffer(small.tobytes(), dtype=np.uint8).reshape(32, 32).astype(np.float64)
    low = _DCT @ gray @ _DCT.T
    in_order = np.sort(low, axis=None)
    median = (in_order[31] + in_order[32]) / 2
    return np.packbits(low > median).tobytes().hex()


def as_arrays(phashes: list[str], colors: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Fingerprints in hex as uint64[N] and uint8[N, 48]."""
    bits = np.array([int(text, 16) for text in phashes], dtype=np.uint64)
    return bits, np.frombuffer(bytes.fromhex("".join(colors)), dtype=np.uint8).reshape(len(bits), 48)


def near_duplicates(bits: np.ndarray, grids: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, of positions that are near-duplicates; a pair may come more than once.

    ``bits`` uint64[N] are the perceptual hashes, ``grids`` uint8[N, 48] the colors.

    By the pigeonhole principle two hashes that differ in at most k bits agree in at least one of k + 1 bands, so only
    images that share a band are compared: exact, and far from all pairs on any varied set.
    """
    for low, high in _band_limits():
        mask = np.uint64(((1 << (high - low)) - 1) << low)
        band = bits & mask
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.r_[True, band[order][1:] != band[order][:-1]])
        for members in np.split(order, starts[1:]):
            if len(members) > 1:
                yield from _pairs_within(members, bits, grids)


def _band_limits() -> Iterator[tuple[int, int]]:
    edges = [round(64 * index / _BANDS) for index in range(_BANDS + 1)]
    return itertools.pairwise(edges)


def _pairs_within(members: np.ndarray, bits: np.ndarray, grids: np.ndarray) -> Iterator[tuple[int, int]]:
    """Near-duplicate pairs among the members of one band, in blocks so that memory stays flat."""
    for start in range(0, len(members), _BLOCK):
        rows = members[start : start + _BLOCK]
        others = members[start:]
        close = np.bitwise_count(bits[rows, None] ^ bits[None, others]) <= PHASH_BITS
        left, right = np.nonzero(close)
        ahead = right > left
        first, second = rows[left[ahead]], others[right[ahead]]
        for at in range(0, len(first), 1 << 16):
            one, two = first[at : at + (1 << 16)], second[at : at + (1 << 16)]
            step = np.abs(grids[one].astype(np.int16) - grids[two].astype(np.int16)).mean(axis=1)
            for i, j in zip(one[step <= COLOR_STEP].tolist(), two[step <= COLOR_STEP].tolist(), strict=True):
                yield (i, j) if i < j else (j, i)
