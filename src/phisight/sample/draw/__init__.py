"""Drawings of products: kind -> sketch -> image.

Adding a kind: write a function ``(sketch, look) -> None`` in the file of its family, name it here and give it a line
in ``products.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from phisight.sample.draw import accessories, bags, bottoms, footwear, outerwear, tops
from phisight.sample.draw.look import Look
from phisight.sample.draw.sketch import Sketch

Draw = Callable[[Sketch, Look], None]

DRAWINGS: Mapping[str, Draw] = {
    function.__name__: function
    for function in (
        outerwear.trench_coat,
        outerwear.wool_coat,
        outerwear.puffer_jacket,
        outerwear.bomber_jacket,
        outerwear.blazer,
        outerwear.gilet,
        outerwear.cape,
        tops.shirt,
        tops.t_shirt,
        tops.polo_shirt,
        tops.sweater,
        tops.cardigan,
        tops.hoodie,
        tops.dress,
        tops.shirt_dress,
        bottoms.trousers,
        bottoms.jeans,
        bottoms.shorts,
        bottoms.skirt,
        bottoms.kilt,
        bottoms.swimsuit,
        bottoms.tie,
        footwear.sneaker,
        footwear.boot,
        footwear.loafer,
        footwear.pump,
        footwear.sandal,
        footwear.socks,
        bags.tote_bag,
        bags.shoulder_bag,
        bags.backpack,
        bags.bucket_bag,
        bags.clutch,
        bags.wallet,
        bags.belt,
        bags.umbrella,
        bags.parcel,
        accessories.scarf,
        accessories.square_scarf,
        accessories.fedora,
        accessories.bucket_hat,
        accessories.cap,
        accessories.beanie,
        accessories.gloves,
        accessories.sunglasses,
        accessories.watch,
        accessories.earrings,
        accessories.necklace,
        accessories.ring,
        accessories.bracelet,
        accessories.perfume,
    )
}


def sketch_of(kind: str, look: Look) -> Sketch:
    """The sketch of one design; KeyError for a kind without a drawing."""
    sketch = Sketch()
    DRAWINGS[kind](sketch, look)
    return sketch
