"""Everyday words that the tokenizer of the small base knows, though no caption holds them.

A published tokenizer knows the words of a language, not those of one data set; so this one is trained on the captions
and on these. The base itself has never been trained on them.
"""

from __future__ import annotations

_THINGS = """
product item name title category type kind brand price full sale total amount number code date description size
color material pattern style shop store receipt invoice paid card cash tax tip discount order customer address
accessory bag backpack belt boot bracelet bucket cap cardigan clutch coat dress earring glove hat hoodie jacket jean
jewel jumper kilt loafer necklace pouch puffer purse ring sandal scarf shirt shoe short skirt sneaker sock suit
sweater swimsuit tie top tote trainer trench trouser umbrella vest wallet watch knitwear outerwear eyewear footwear
apple banana bean beer biscuit bottle box bread butter cake candle can cereal cheese chicken chocolate coffee cookie
cream cup egg fish flour fruit grain honey jam juice lemon meat milk nut oil onion orange pack pasta pepper pizza
plate potato rice salad salt sauce snack soap soda soup spice sugar tea tomato vegetable water wine yogurt bed
blanket book bowl brush camera chair clock computer cushion desk door fork frame game garden glass headphone key
keyboard kitchen knife lamp laptop mirror monitor mouse mug needle notebook oven paper pen pencil phone pillow
printer radio screen shelf sofa speaker spoon table tablet tool towel toy vase wall window
"""
_QUALITIES = """
beige black blue bright brown clean cold cotton cracked dark deep defect diamond dirty dotted dry fine free fresh
gold good gray green grey hard heavy hot large leather light linen long medium metal mini narrow natural new old
open pale paper patterned pink plain plastic purple red regular round rubber scratched sharp short silk silver small
soft square steel striped thin wet white wide wood wool yellow check checked floral
"""
_LITTLE = """
a all an and are as at be by for from has in is it more no none not of off on one or other per pair set that the
this to two unknown what which with without yes
"""


def everyday_texts() -> list[str]:
    """Every word as text writes it: small, with a capital, in capitals; things in the plural, too."""
    things = _THINGS.split()
    words = [*things, *(_plural(word) for word in things), *_QUALITIES.split(), *_LITTLE.split()]
    return [form for word in dict.fromkeys(words) for form in (word, word.capitalize(), word.upper())]


def _plural(word: str) -> str:
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    if word.endswith(("scarf", "shelf")):
        return word[:-1] + "ves"
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")
