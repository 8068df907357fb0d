"""Bags and small leather goods."""

from __future__ import annotations

from phisight.sample.draw.look import Look, folds, pair, seams
from phisight.sample.draw.outline import arch, ellipse, flip, mirrored, outline, rounded
from phisight.sample.draw.sketch import Sketch


def _buckle(s: Sketch, look: Look, x: float, y: float, size: float = 3.0) -> None:
    s.fill(rounded(x - size, y - size, x + size, y + size, 0.8), look.metal, light="flat", solid=False)
    s.fill(
        rounded(x - size * 0.55, y - size * 0.55, x + size * 0.55, y + size * 0.55, 0.4),
        look.ink,
        light="flat",
        edge=0,
        solid=False,
    )
    s.line(outline(f"M{x - size * 0.6} {y} L{x + size * 0.8} {y}"), look.metal, 0.7)


def tote_bag(s: Sketch, look: Look) -> None:
    """Open tote with two handles and leather corners."""
    half, top = look.between(25, 38), look.between(44, 36)
    s.line(arch(f"M0 {top - 30} Q12 {top - 28} {half * 0.42} {top + 8}"), look.ink, 3.4, solid=True, opacity=0.85)
    s.fill(
        mirrored(f"M0 {top - 1.6} L{half + 1} {top - 1.6} L{half} {top + 3} L0 {top + 3}"), look.lining, light="flat"
    )
    s.fill(mirrored(f"M0 {top} L{half + 1} {top} L{half * 0.92} 90 Q{half * 0.9} 93 {half * 0.85} 93 L0 93"))
    pair(
        s,
        outline(f"M{half * 0.66} 93 L{half * 0.9} 93 L{half * 0.96} 76 Q{half * 0.7} 80 {half * 0.66} 93"),
        "trim",
        light="flat",
    )
    s.fill(mirrored(f"M0 {top} L{half + 1} {top} L{half + 0.6} {top + 5} L0 {top + 5}"), "trim", light="flat")
    folds(s, outline(f"M{half * 0.5} {top + 10} Q{half * 0.56} 66 {half * 0.5} 88"), 2.2)
    handle = arch(f"M0 {top - 26} Q11 {top - 25} {half * 0.42} {top + 16}")
    s.line(handle, look.ink, 4.6, solid=True)
    s.line(handle, (150, 98, 56), 3.6)
    s.line(handle, look.thread, 0.4, dash=1.2)
    for x in (-half * 0.42, half * 0.42):
        s.fill(ellipse(x, top + 15, 1.8, 1.8), look.metal, light="ball", solid=False)


def shoulder_bag(s: Sketch, look: Look) -> None:
    """Flap bag on a chain or strap, with a clasp."""
    half = look.between(24, 36)
    deep = look.between(80, 90)
    if look.style == 0:
        s.line(
            outline(f"M{-half + 4} 50 Q{-half * 0.7} 4 0 4 Q{half * 0.7} 4 {half - 4} 50"), look.metal, 1.1, solid=True
        )
        for share in range(1, 24):
            angle = share / 24
            x = (-half + 4) * (1 - angle) ** 2 + 2 * (1 - angle) * angle * 0 + (half - 4) * angle**2
            y = 50 * (1 - angle) ** 2 + 2 * (1 - angle) * angle * -42 + 50 * angle**2
            s.line(ellipse(x, max(y, 3.0), 1.3, 1.3, 10), look.metal, 0.8)
    else:
        s.line(
            outline(f"M{-half + 3} 50 Q{-half * 0.7} 3 0 3 Q{half * 0.7} 3 {half - 3} 50"), look.ink, 3.6, solid=True
        )
        s.line(outline(f"M{-half + 3} 50 Q{-half * 0.7} 3 0 3 Q{half * 0.7} 3 {half - 3} 50"), (120, 76, 44), 2.7)
    s.fill(rounded(-half, 44, half, deep, 6))
    s.fill(
        outline(
            f"M{-half - 0.6} 48 Q{-half} 43 {-half + 5} 43 L{half - 5} 43 Q{half} 43 {half + 0.6} 48 "
            f"L{half - 1} 64 Q{half * 0.5} 74 0 74 Q{-half * 0.5} 74 {-half + 1} 64"
        ),
        "main",
        light="flat",
        edge=0.8,
    )
    s.line(
        outline(f"M{-half + 1.5} 62 Q{-half * 0.5} 72 0 72 Q{half * 0.5} 72 {half - 1.5} 62"),
        look.thread,
        0.4,
        dash=1.0,
    )
    s.fill(rounded(-4.5, 67, 4.5, 76, 1.5), look.metal, light="flat", solid=False)
    s.fill(ellipse(0, 71.5, 1.8, 1.8), look.ink, edge=0, solid=False)


def backpack(s: Sketch, look: Look) -> None:
    """Two straps, flap with buckles, front pocket."""
    half = look.between(22, 29)
    s.line(outline("M-6 12 Q-6 3 0 3 Q6 3 6 12"), look.ink, 2.8, solid=True)
    pair(
        s,
        outline(f"M{half - 5} 34 Q{half + 10} 50 {half - 1} 84 L{half - 5} 82 Q{half + 3} 54 {half - 8} 38"),
        "trim",
        light="flat",
    )
    s.fill(mirrored(f"M0 9 Q{half * 0.8} 9 {half - 2} 28 L{half} 86 Q{half - 1} 93 {half - 8} 93 L0 93"))
    s.fill(rounded(-half * 0.72, 60, half * 0.72, 89, 5), "main", light="flat", edge=0.8)
    s.line(outline(f"M{-half * 0.66} 67 L{half * 0.66} 67"), look.metal, 1.1)
    s.line(outline(f"M{half * 0.5} 67 L{half * 0.5} 72"), look.metal, 1.2)
    s.fill(
        mirrored(f"M0 8 Q{half * 0.86} 8 {half - 1} 28 L{half - 1} 44 Q{half * 0.6} 52 0 52"),
        "main",
        light="round",
        edge=0.9,
    )
    for x in (-half * 0.45, half * 0.45):
        s.fill(rounded(x - 2, 36, x + 2, 60, 1), (110, 70, 42), light="flat", solid=False)
        _buckle(s, look, x, 55, 3.2)


def bucket_bag(s: Sketch, look: Look) -> None:
    """Drawstring bucket on a long strap."""
    s.line(outline("M-22 40 Q-26 2 0 2 Q26 2 22 40"), look.ink, 3.2, solid=True)
    s.line(outline("M-22 40 Q-26 2 0 2 Q26 2 22 40"), (124, 80, 46), 2.2)
    half = look.between(20, 27)
    s.fill(ellipse(0, 40, half, 5), look.lining, light="flat")
    s.fill(mirrored(f"M0 44 Q{half * 0.8} 43 {half} 39 Q{half - 5} 50 {half - 2} 60 L{half} 88 Q{half * 0.6} 95 0 95"))
    for share in (0.2, 0.45, 0.72):
        folds(s, outline(f"M{half * share} 43 Q{(half - 5) * share} 50 {half * share} 62"), 1.6, 1.5)
    s.fill(mirrored(f"M0 95 Q{half * 0.6} 95 {half} 88 L{half - 0.2} 83 Q{half * 0.6} 89 0 90"), "trim", light="flat")
    s.line(outline(f"M{-half + 4} 50 Q0 55 {half - 4} 50"), look.ink, 1.6)
    for x in (-4, 4):
        s.line(outline(f"M{x / 2} 52.5 Q{x * 1.6} 62 {x} 72"), look.ink, 1.4)
        s.fill(ellipse(x, 73, 1.6, 2.2), look.metal, light="ball", solid=False)


def clutch(s: Sketch, look: Look) -> None:
    """Envelope clutch with a wrist strap."""
    half = look.between(34, 45)
    s.line(
        outline(f"M{half - 2} 46 Q{half + 8} 58 {half - 8} 74 Q{half - 14} 62 {half - 4} 46"), look.ink, 2.0, solid=True
    )
    s.fill(rounded(-half, 34, half, 76, 2.5))
    s.fill(
        outline(
            f"M{-half} 36 Q{-half} 33.6 {-half + 2.4} 33.6 L{half - 2.4} 33.6 "
            f"Q{half} 33.6 {half} 36 L2.5 61 Q0 62.5 -2.5 61"
        ),
        "main",
        light="flat",
        edge=0.9,
    )
    s.line(outline(f"M{-half + 2} 37.5 L0 59.4 L{half - 2} 37.5"), look.thread, 0.4, dash=1.0)
    s.fill(ellipse(0, 59, 3.2, 3.2), look.metal, light="ball", solid=False)


def wallet(s: Sketch, look: Look) -> None:
    """Folded wallet, half open."""
    s.fill(outline("M-34 30 L-4 22 L-4 76 L-34 82"), "main", shade=0.7)
    for step in range(3):
        y = 36 + step * 9
        s.fill(
            outline(f"M-31 {y} L-6 {y - 6.6} L-6 {y + 10} L-31 {y + 16}"),
            "main",
            light="flat",
            shade=0.85 + 0.05 * step,
        )
    s.fill(outline("M-5 22 L36 27 Q38 27.4 38 30 L38 76 Q38 79 36 79 L-5 76"), "main", edge=0.8)
    s.line(outline("M-3 25 L35.6 29.6 L35.6 76.6 L-3 73.6"), look.thread, 0.4, dash=1.0)
    s.fill(rounded(10, 47, 24, 56, 1), look.metal, light="flat", solid=False)
    s.line(outline("M12 51.5 L22 51.5"), look.ink, 0.5)


def belt(s: Sketch, look: Look) -> None:
    """A coiled belt with its buckle in front."""
    wide = look.between(9, 13)
    s.fill(
        outline(
            f"M-44 50 Q-44 34 0 34 Q44 34 44 50 L44 {50 + wide * 0.6} Q40 "
            f"{38 + wide} 0 {38 + wide} Q-40 {38 + wide} -44 {50 + wide * 0.6}"
        ),
        "main",
        shade=0.55,
    )
    s.fill(
        outline(
            f"M-44 50 Q-42 66 -10 66 L34 66 Q43 63 44 50 L44 {50 + wide} Q43 {64 + wide} 34 "
            f"{66 + wide} L-10 {66 + wide} Q-43 {65 + wide} -44 {50 + wide}"
        )
    )
    s.line(outline("M-43 53 Q-40 68.4 -10 68.4 L34 68.4 Q42 65 43 53"), look.thread, 0.4, dash=1.0)
    s.line(
        outline(
            f"M-43 {48 + wide} Q-40 {63.6 + wide} -10 {63.6 + wide} L34 {63.6 + wide} Q42 {61 + wide} 43 {48 + wide}"
        ),
        look.thread,
        0.4,
        dash=1.0,
    )
    for step in range(4):
        s.fill(ellipse(14 + step * 5, 66 + wide / 2, 0.9, 0.9), look.ink, edge=0, solid=False)
    s.fill(rounded(-14, 63, 3, 69 + wide, 2), look.metal, light="flat", edge=0.8)
    s.fill(rounded(-10.4, 66.4, -0.6, 65.6 + wide, 1), "main", edge=0.3)
    s.line(outline(f"M-10 {66 + wide / 2} L3 {66 + wide / 2}"), look.metal, 1.5)
    s.fill(rounded(6, 64.6, 9.4, 67.4 + wide, 0.8), "main", light="flat", edge=0.9)


def umbrella(s: Sketch, look: Look) -> None:
    """An open umbrella with a curved handle."""
    s.line(outline("M0 10 L0 86 Q0 96 7 96 Q13 96 13 89"), (92, 60, 38), 2.4, solid=True)
    canopy = "M0 10 Q34 10 46 48 Q40 43 32 47 Q25 42 17 47 Q9 42 0 47"
    s.fill(mirrored(canopy), light="ball")
    for x in (17, 32):
        seams(s, outline(f"M0 10 Q{x * 0.8} 16 {x} 47"), look.ink, 0.5, opacity=0.8)
    s.line(outline("M0 4 L0 11"), look.metal, 1.4)
    s.fill(flip(outline("M0 47 L0 47.1 L0.1 47")), look.ink, edge=0, solid=False)


def parcel(s: Sketch, look: Look) -> None:
    """A labeled box: stands for a product that has no drawing of its own."""
    half = look.between(26, 34)
    s.fill(outline(f"M{-half} 40 L0 30 L{half} 40 L0 51"), "main", light="flat", shade=0.95)
    s.fill(outline(f"M{-half} 40 L0 51 L0 92 L{-half} 80"), "main", light="flat")
    s.fill(outline(f"M0 51 L{half} 40 L{half} 80 L0 92"), "main", light="flat", shade=0.78)
    s.fill(outline(f"M{-half * 0.6} 36 L{half * 0.4} 47 L{half * 0.6} 44 L{-half * 0.4} 34"), "trim", light="flat")
    s.fill(
        outline(f"M{-half * 0.8} 56 L{-half * 0.25} 62 L{-half * 0.25} 78 L{-half * 0.8} 71"),
        (248, 246, 240),
        light="flat",
    )
    for step in range(3):
        y = 61 + 4 * step
        s.line(outline(f"M{-half * 0.74} {y} L{-half * 0.34} {y + 4.4}"), look.ink, 0.8)
