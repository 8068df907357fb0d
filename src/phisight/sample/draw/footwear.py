"""Shoes, seen from the side, and socks."""

from __future__ import annotations

import numpy as np

from phisight.sample.draw.look import Look
from phisight.sample.draw.outline import ellipse, outline, rounded
from phisight.sample.draw.sketch import Sketch

_RUBBER = (238, 236, 228)
_LEATHER_SOLE = (58, 40, 30)


def sneaker(s: Sketch, look: Look) -> None:
    """Low sneaker with laces and a thick sole."""
    s.fill(outline("M-38 36 Q-36 28 -30 26 L-16 30 L-10 40 L-36 44"), look.lining, light="flat")
    s.fill(
        outline("M-44 66 L-43 40 Q-42 30 -34 27 Q-30 36 -22 38 Q-14 38 -10 27 L2 36 L18 48 Q34 50 42 57 Q46 61 46 66"),
        "main",
    )
    s.fill(outline("M20 49 Q34 50 42 57 Q46 61 46 66 L20 66 Q16 56 20 49"), "trim", light="flat")
    s.fill(outline("M-44 66 L-43 42 Q-36 46 -34 54 L-33 66"), "trim", light="flat")
    s.fill(outline("M-12 27 Q-9 22 -5 23 L20 44 L18 49 L2 37"), "main", light="flat", shade=0.9)
    for step in range(5):
        x, y = -7 + step * 5, 29 + step * 4
        s.line(outline(f"M{x} {y} Q{x + 4} {y - 4} {x + 8} {y + 1}"), _RUBBER, 1.7)
        s.line(outline(f"M{x - 1} {y + 1} L{x + 1} {y + 6}"), _RUBBER, 1.3)
    s.line(outline("M-30 48 Q-12 60 12 52"), look.ink, 0.6, opacity=0.6)
    s.line(outline("M-28 50 Q-11 62 13 54"), look.thread, 0.5, dash=1.0)
    s.fill(outline("M-46 65 L47 65 Q49 70 46 76 L-42 76 Q-47 76 -46 65"), _RUBBER, light="flat", edge=0.6)
    s.line(outline("M-45.6 69 L47.5 69"), look.ink, 0.5, opacity=0.5)
    for x in range(-40, 46, 4):
        s.line(outline(f"M{x} 73.5 L{x} 76"), (120, 116, 108), 0.6, opacity=0.7)


def boot(s: Sketch, look: Look) -> None:
    """Heeled boot; the shaft grows with the size."""
    top = look.between(34, 4)
    s.fill(
        outline(
            f"M-26 {top} Q-14 {top + 3} -1 {top} L0 50 Q6 62 24 68 Q38 72 40 "
            f"84 L-4 86 L-24 84 Q-29 70 -25 56 Q-28 40 -26 {top}"
        ),
        "main",
    )
    s.fill(ellipse(-13.5, top, 12.5, 2.6), look.lining, light="flat", edge=0.6)
    s.fold(outline("M-2 52 Q-10 58 -18 56"), 2.0)
    s.fold(outline("M2 58 Q-6 66 -14 64"), 1.8)
    s.line(outline("M14 64 Q12 74 18 84"), look.ink, 0.6, opacity=0.6)
    s.line(outline("M-24 72 Q-8 74 2 86"), look.ink, 0.5, opacity=0.5)
    if look.style:
        s.fill(outline("M-25.6 58 L1 56 L3 60 L-25.4 63"), "trim", light="flat")
        s.fill(rounded(-8, 55.6, -2, 63, 1), look.metal, light="flat", solid=False)
        s.fill(rounded(-6.6, 57.2, -3.4, 61.4, 0.5), "trim", edge=0.2, solid=False)
    s.fill(outline("M-25 83 Q10 88 41 82 Q43 86 40 88 L-2 88 L-24 87"), _LEATHER_SOLE, light="flat")
    s.fill(outline("M-25 86 L-6 87 L-8 97 L-23 97"), _LEATHER_SOLE)


def loafer(s: Sketch, look: Look) -> None:
    """Slip-on with an apron seam and a metal bit."""
    s.fill(outline("M-38 46 Q-34 36 -28 40 L2 44 L-6 54 L-36 56"), look.lining, light="flat")
    s.fill(outline("M-43 68 Q-45 48 -40 40 Q-34 50 -18 50 Q-8 49 0 40 Q12 42 20 48 Q40 52 46 62 Q47 66 46 69"), "main")
    s.fill(outline("M0 41 Q14 42 22 49 Q32 51 38 57 Q20 60 6 55 Q-2 50 -4 46"), "main", light="ball", edge=0.7)
    s.line(outline("M1 43 Q12 46 20 51 Q30 53 36 57"), look.thread, 0.4, dash=0.9)
    s.fill(outline("M-8 46 L4 40 L14 46 L2 58 L-8 56"), "main", light="flat", edge=0.8)
    s.line(outline("M-6 52 L10 45"), look.metal, 1.8)
    for x, y in ((-5, 52), (10, 45)):
        s.line(ellipse(x, y, 2.2, 2.4), look.metal, 1.1)
    s.fill(outline("M-44 67 L47 67 Q48 70 46 72 L-20 72 L-22 78 L-43 78 Q-45 72 -44 67"), _LEATHER_SOLE, light="flat")


def pump(s: Sketch, look: Look) -> None:
    """Pointed court shoe; the heel grows with the size."""
    heel = look.between(58, 38)
    s.fill(
        outline(f"M-34 {heel} Q-26 {heel - 2} -22 {heel + 6} L8 70 L-4 78 L-30 {heel + 16}"), look.lining, light="flat"
    )
    s.fill(
        outline(
            f"M-37 {heel + 20} Q-41 {heel + 4} -36 {heel - 6} Q-33 {heel + 10} "
            f"-22 {heel + 16} Q-6 {heel + 30} 8 68 Q14 62 20 68 "
            f"Q40 76 47 85 Q30 87 14 86 Q-4 84 -16 {heel + 32} Q-26 {heel + 22} -37 {heel + 20}"
        ),
        "main",
    )
    s.fill(
        outline(
            f"M-37.6 {heel + 18} Q-30 {heel + 20} -26 {heel + 26} Q-32 "
            f"{heel + 34} -33 90 L-36 90 Q-36 {heel + 38} -37.6 {heel + 18}"
        ),
        "main",
    )
    s.fill(
        outline(
            f"M-26 {heel + 24} Q-10 {heel + 36} 2 84 Q30 90 47 85 Q48 88 40 88.6 Q16 89.4 0 87 Q-14 84 -26 {heel + 27}"
        ),
        _LEATHER_SOLE,
    )
    if look.style:
        s.fill(ellipse(14, 67.4, 3, 2), look.metal, light="ball", solid=False)
        s.fill(outline("M14 67.4 L6 63 L7 71"), "trim", solid=False)
        s.fill(outline("M14 67.4 L22 64 L21 72"), "trim", solid=False)


def sandal(s: Sketch, look: Look) -> None:
    """Flat slide with crossed straps and a moulded foot bed."""
    s.fill(outline("M-46 70 Q-44 62 -30 62 L20 64 Q44 64 47 71 Q46 76 36 76 L-38 76 Q-46 76 -46 70"), (186, 146, 104))
    s.fill(outline("M-46 71 Q0 76 47 71 Q47 80 40 80 L-40 80 Q-47 80 -46 71"), _LEATHER_SOLE, light="flat")
    s.fill(outline("M-2 72 Q0 48 18 44 Q34 46 40 70 L26 72 Q22 56 16 56 Q10 58 10 73"), "main", angle=30)
    s.fill(
        outline("M-40 68 Q-38 46 -22 42 L-14 44 Q-6 56 -6 70 L-15 70 Q-18 54 -22 53 Q-29 56 -31 69"), "main", angle=-30
    )
    s.fill(rounded(-30, 46, -22, 54, 1), look.metal, light="flat", solid=False)
    s.fill(rounded(-28, 48, -24, 52, 0.5), "main", edge=0.3, solid=False)


def socks(s: Sketch, look: Look) -> None:
    """A pair of ribbed socks."""
    top = look.between(30, 8)
    leg = outline(f"M-16 {top} L4 {top} L5 58 Q8 66 22 72 Q32 78 28 88 Q22 94 8 92 Q-10 88 -16 74 Q-18 66 -16 {top}")
    toe = outline("M13 69 Q32 76 28 88 Q23 93.6 12 92.4 Q22 82 13 69")
    heel = outline("M-16 62 Q-4 64 -4 74 Q-6 84 -7 85 Q-15 78 -16 70")
    cuff = rounded(-16.6, top - 1, 4.6, top + 9, 0.8)
    for across, shade in ((13.0, 0.86), (-7.0, 1.0)):
        shift = np.array([across, 0.0])
        s.fill(leg + shift, "main", shade=shade)
        for part in (toe, heel, cuff):
            s.fill(part + shift, "trim", light="flat", shade=shade)
        for x in range(-15, 4, 2):
            s.line(outline(f"M{x} {top - 0.4} L{x} {top + 8.4}") + shift, look.ink, 0.3, opacity=0.4)
