"""Trousers, shorts, skirts and swimwear."""

from __future__ import annotations

from phisight.sample.draw.look import Look, folds, pair, seams
from phisight.sample.draw.outline import ellipse, flip, mirrored, outline, rounded
from phisight.sample.draw.sketch import Sketch


def _waist(s: Sketch, look: Look, half: float, top: float = 4, deep: float = 5) -> None:
    s.fill(rounded(-half, top, half, top + deep, 0.8), "main", light="flat", edge=0.6)
    for x in (-half * 0.6, half * 0.6):
        s.fill(rounded(x - 0.7, top - 0.6, x + 0.7, top + deep + 0.8, 0.3), "main", light="flat", edge=0.7)
    s.fill(ellipse(0, top + deep / 2, 1.1, 1.1), look.metal, light="ball", solid=False)


def trousers(s: Sketch, look: Look) -> None:
    """Pressed creases, slant pockets."""
    ankle = look.between(8, 12)
    leg = outline(f"M0 8 L15 8 Q19 24 18.5 40 L{11 + ankle} 96 Q{10 + ankle / 2} 97.5 9 97 L2.2 34 L0 32")
    pair(s, leg, angle=-2)
    s.line(outline("M0 9 L0 32"), look.ink, 0.5)
    folds(s, outline(f"M9 14 Q11 50 {10.5 + ankle / 2} 95"), 1.4, 1.1)
    seams(s, outline("M10 9 Q11 14 16.6 20"), look.ink, 0.5)
    folds(s, outline("M3 33 Q8 36 12 34"), 1.2)
    _waist(s, look, 15)


def jeans(s: Sketch, look: Look) -> None:
    """Five pockets, contrast stitches, turned-up hems."""
    flare = look.between(8, 13)
    leg = outline(f"M0 8 L15.5 8 Q19.5 24 18.5 40 L{10 + flare} 94 L8.5 95 L2.4 34 L0 32")
    pair(s, leg)
    pair(s, outline(f"M8 90 L{10.4 + flare} 89 L{10.6 + flare} 95.5 L8.2 96.5"), light="flat")
    folds(s, outline("M8 40 Q12 46 16 44"), 1.6)
    folds(s, outline("M7 62 Q11 60 15 63"), 1.4)
    seams(s, outline("M9 9 Q9 16 17.4 17"), look.thread, 0.45, opacity=1, dash=0.9)
    seams(s, outline(f"M17.6 20 L{9.4 + flare} 88"), look.thread, 0.35, opacity=0.8, dash=0.9)
    s.line(outline("M3.4 9 Q4 22 0 29"), look.thread, 0.45, dash=0.9)
    s.line(outline("M0 9 L0 33"), look.ink, 0.5)
    _waist(s, look, 15.5)
    seams(s, outline("M0 5 L15 5"), look.thread, 0.3, opacity=0.9, dash=0.9)
    for x in (8.2, 15.6):
        s.fill(ellipse(x, 12 if x < 9 else 17, 0.5, 0.5), look.metal, solid=False)


def shorts(s: Sketch, look: Look) -> None:
    """Drawstring or tailored shorts."""
    hem = look.between(56, 74)
    leg = outline(f"M0 16 L22 16 Q27 30 30 {hem - 3} Q18 {hem + 2} 4 {hem} L1.5 44 L0 42")
    pair(s, leg, angle=-4)
    s.line(outline("M0 18 L0 43"), look.ink, 0.6)
    folds(s, outline(f"M13 24 Q16 40 16 {hem - 4}"), 2.0)
    seams(s, outline("M15 18 Q17 26 25 29"), look.ink, 0.6)
    seams(s, outline(f"M5 {hem - 3.4} Q18 {hem - 1.4} 29 {hem - 6}"), look.ink, 0.35, dash=0.9)
    s.fill(rounded(-22, 12, 22, 20, 1), "main", light="flat", edge=0.6)
    for x in range(-20, 21, 2):
        s.line(outline(f"M{x} 12.6 L{x} 19.4"), look.ink, 0.3, opacity=0.3)
    for cord in (-2.0, 2.0):
        s.line(outline(f"M{cord / 2} 17 Q{cord * 2} 26 {cord * 1.5} 35"), (242, 238, 230), 1.1)


def skirt(s: Sketch, look: Look) -> None:
    """Pleated skirt with a waistband."""
    hem = look.between(66, 92)
    wide = look.between(32, 38)
    s.fill(mirrored(f"M0 14 L16 14 Q22 40 {wide} {hem - 4} Q18 {hem + 3} 0 {hem + 2}"))
    for share in (0.15, 0.4, 0.62, 0.83):
        folds(
            s, outline(f"M{16 * share:.2f} 18 Q{20 * share:.2f} 44 {wide * share:.2f} {hem - 4 * share:.2f}"), 1.9, 1.4
        )
    s.fill(rounded(-16.5, 9, 16.5, 16, 1), "trim", light="flat", edge=0.6)
    if look.style:
        s.fill(rounded(6, 10.5, 10, 14.5, 0.6), look.metal, light="flat", solid=False)


def kilt(s: Sketch, look: Look) -> None:
    """Wrapped kilt with leather straps and a fringe."""
    hem = look.between(64, 84)
    s.fill(mirrored(f"M0 14 L17 14 L25 {hem - 2} Q12 {hem + 1} 0 {hem + 1}"))
    for x in range(-14, 6, 4):
        s.fold(outline(f"M{x} 20 L{x * 1.4:.2f} {hem - 1}"), 1.4, 1.5)
    s.line(outline(f"M8 15 L11 {hem}"), look.ink, 0.8)
    for y in range(20, int(hem), 2):
        rim = 8 + 3 * (y - 15) / (hem - 15)
        s.line(outline(f"M{rim:.2f} {y} L{rim + 2.6:.2f} {y + 0.6}"), look.ink, 0.5)
    s.fill(rounded(-17.2, 10, 17.2, 16, 0.8), "main", light="flat", edge=0.6)
    for y in (18, 25):
        s.fill(rounded(3, y, 15, y + 3.6, 0.8), (70, 44, 28), light="flat", solid=False)
        s.fill(rounded(11, y - 0.6, 14, y + 4.2, 0.6), look.metal, light="flat", solid=False)


def swimsuit(s: Sketch, look: Look) -> None:
    """One-piece with straps and high legs."""
    s.fill(mirrored("M0 20 L9 17 L9 30 L0 30"), look.lining, edge=0.2, light="flat")
    s.fill(mirrored("M0 30 Q8 28 9.5 16 L10 4 L13 4 Q13 18 17 27 Q16 38 13.5 46 Q14 58 20 68 Q12 74 5 88 Q2 91 0 91"))
    seams(s, outline("M19 68 Q11 74 4.4 87"), look.ink, 0.5)
    folds(s, outline("M13 34 Q8 37 3 36"), 1.4)
    folds(s, outline("M12 52 Q9 64 11 70"), 1.4)
    s.line(outline("M-9.5 29 Q0 34 9.5 29"), look.ink, 0.4, opacity=0.6)
    if look.style:
        s.fill(mirrored("M0 47 L13.6 45 L13.8 49 L0 51"), "trim", light="flat")


def tie(s: Sketch, look: Look) -> None:
    """A necktie, knotted."""
    s.line(outline("M-5 10 Q-14 4 -9 2 Q0 -1 9 2 Q14 4 5 10"), look.ink, 5.6, solid=True)
    s.fill(outline("M-5 10 Q-15 4 -10 1 Q-4 0 0 4 L2 12"), "main", shade=0.75, angle=40)
    s.fill(flip(outline("M-5 10 Q-15 4 -10 1 Q-4 0 0 4 L2 12")), "main", shade=0.85, angle=-40)
    s.fill(outline("M-2 18 L3 18 L9 74 L5 84 L-1 76"), "main", shade=0.7, angle=40)
    s.fill(outline("M-4 17 L4 17 L11 84 L0 98 L-11 84"), "main", angle=45)
    s.fill(outline("M-6 8 L6 8 L4 18 L-4 18"), "main", angle=-45)
    s.fold(outline("M-1 19 L-2 50"), 1.4)
