"""Shirts, knitwear and dresses."""

from __future__ import annotations

from phisight.sample.draw.look import Look, folds, pair, seams
from phisight.sample.draw.outline import ellipse, flip, mirrored, outline, rounded
from phisight.sample.draw.sketch import Sketch


def _pearls(s: Sketch, x: float, top: float, bottom: float, count: int) -> None:
    for step in range(count):
        y = top + (bottom - top) * step / max(1, count - 1)
        s.fill(ellipse(x, y, 0.75, 0.75), (245, 242, 232), light="ball", edge=0.5, solid=False)


def shirt(s: Sketch, look: Look) -> None:
    """Long sleeves, pointed collar, button placket, chest pocket."""
    hem = 84
    s.fill(mirrored("M0 9 L8 6 L7 15 L0 17"), look.lining, edge=0.2)
    pair(s, outline("M14 10 Q23 12 26 22 L35 66 L27 69 L18 36"), angle=-12)
    pair(s, outline("M27 67 L35 64.5 L36 72 L28 74"), light="flat", angle=-12)
    s.fill(mirrored(f"M0 16 L8 8 Q16 9 19 14 L18 45 L20 {hem - 8} Q16 {hem - 1} 0 {hem}"))
    s.fill(rounded(-2.1, 17, 2.1, hem - 0.4, 0.3), "main", light="flat", edge=0.35)
    folds(s, outline("M17 24 Q18 34 17 46"), 1.6)
    folds(s, outline(f"M9 56 Q12 68 11 {hem - 4}"), 1.6)
    for side in (-1, 1):
        collar = outline("M0 17 L6 6 L9 7 Q11 10 12 18 L5 22")
        s.fill(collar if side > 0 else flip(collar), "main", light="flat", angle=25 * side)
    s.fill(mirrored("M0 7.5 Q4 7 6.5 5.5 L6.5 8.5 Q3 11 0 11"), "main", light="flat", shade=0.85)
    s.fill(outline("M7 32 L15 32 L15 42 L11 44 L7 42"), "main", light="flat")
    _pearls(s, 0, 24, hem - 8, 6)


def t_shirt(s: Sketch, look: Look) -> None:
    """Short sleeves, ribbed crew neck."""
    hem = look.between(80, 88)
    s.fill(mirrored("M0 9 L10 7 L9 14 L0 16"), look.lining, edge=0.2)
    pair(s, outline("M15 11 Q26 13 30 20 L39 38 L27 45 L18 32"), angle=-28)
    seams(s, outline("M37.6 36.4 L26 43"), look.ink, 0.35, opacity=0.6, dash=0.8)
    s.fill(mirrored(f"M0 17 Q7 16 10 8 Q17 9 22 14 L20 42 L21 {hem - 2} Q10 {hem} 0 {hem}"))
    s.fill(mirrored("M0 18.5 Q8 18 11.6 8.6 L10 8 Q7 15.6 0 16"), "trim", light="flat", edge=0.6)
    folds(s, outline("M19 28 Q16 36 18 48"), 1.6)
    folds(s, outline(f"M8 60 Q14 70 12 {hem - 3}"), 1.6)
    seams(s, outline(f"M0 {hem - 2.2} L20.6 {hem - 4}"), look.ink, 0.3, opacity=0.6, dash=0.8)


def polo_shirt(s: Sketch, look: Look) -> None:
    """Short sleeves, knitted collar, short placket."""
    hem = look.between(80, 88)
    s.fill(mirrored("M0 9 L9 7 L8 15 L0 17"), look.lining, edge=0.2)
    pair(s, outline("M15 10 Q25 12 29 20 L36 38 L26 43 L18 32"), angle=-24)
    pair(s, outline("M36 36 L26 41 L27 44.5 L37 39.5"), "trim", light="flat")
    s.fill(mirrored(f"M0 17 L9 8 Q17 9 21 14 L20 42 L20.5 {hem - 2} Q10 {hem} 0 {hem}"))
    s.fill(rounded(-2.4, 17, 2.4, 38, 0.5), "main", light="flat", edge=0.6)
    folds(s, outline("M18 30 Q16 40 18 52"), 1.6)
    folds(s, outline(f"M8 60 Q13 70 11 {hem - 4}"), 1.4)
    for side in (-1, 1):
        collar = outline("M0 17.5 L7 6 Q11 8 13 16 L4.5 23")
        s.fill(collar if side > 0 else flip(collar), "trim", light="flat")
    _pearls(s, 0, 25, 34, 3)


def sweater(s: Sketch, look: Look) -> None:
    """Crew-neck knit with ribbed cuffs, hem and neck."""
    hem = look.between(76, 84)
    s.fill(mirrored("M0 9 L9 7 L8 13 L0 15"), look.lining, edge=0.2)
    pair(s, outline("M14 11 Q24 12 28 22 Q35 44 36 62 L26 65 L19 38"), angle=-12)
    pair(s, outline("M26 64 L36 61 L36.5 70 L27.5 72"), "trim", light="flat")
    s.fill(mirrored(f"M0 16 Q6 15 9 8 Q17 9 21 14 L20 44 L22 {hem - 7} L0 {hem - 6}"))
    s.fill(mirrored(f"M0 {hem - 7} L21.8 {hem - 8} L20.5 {hem} L0 {hem + 1}"), "trim", light="flat")
    s.fill(mirrored("M0 18.5 Q8 18 11.5 8.5 L8.5 7 Q6 13.8 0 14.5"), "trim", light="flat", edge=0.6)
    for x in range(-20, 21, 2):
        s.line(outline(f"M{x} {hem - 6.6} L{x * 0.94} {hem + 0.4}"), look.ink, 0.3, opacity=0.35)
    for step in range(1, 5):
        seams(
            s,
            outline(f"M{26.5 + step * 2} {64.4 - step * 0.7} L{27.8 + step * 1.8} {71.6 - step * 0.4}"),
            look.ink,
            0.3,
            opacity=0.35,
        )
    folds(s, outline("M19 26 Q18 38 19 50"), 1.8)
    folds(s, outline(f"M9 {hem - 8} Q10 62 14 54"), 1.6)


def cardigan(s: Sketch, look: Look) -> None:
    """V-neck knit, buttoned, with two patch pockets."""
    hem = look.between(76, 88)
    s.fill(mirrored("M0 8 L8 6 L6 24 L0 38"), look.lining, edge=0.2, light="flat")
    pair(s, outline("M14 10 Q23 11 27 21 Q33 44 34 62 L25 65 L18 38"), angle=-12)
    pair(s, outline("M25 64 L34 61.5 L34.5 70 L26.5 72"), "trim", light="flat")
    for side in (-1, 1):
        front = outline(f"M0 40 L7 7 Q16 8 20 13 L19 44 L21 {hem} L0 {hem + 1}")
        s.fill(front if side > 0 else flip(front))
    seams(s, outline("M1.8 40 L8.4 7.5"), look.ink, 0.4)
    for side in (-1, 1):
        band = outline("M-1.6 40 L5.6 6.4 L8.6 7.6 L2 41")
        s.fill(band if side > 0 else flip(band), "trim", light="flat")
    s.fill(rounded(-2, 39, 2, hem + 0.8, 0.4), "trim", light="flat")
    pair(s, outline("M6 60 L16 59.4 L16.4 72 L6.4 72.6"), light="flat")
    _pearls(s, 0, 44, hem - 4, 5)
    folds(s, outline("M18 24 Q17 38 18 50"), 1.6)


def hoodie(s: Sketch, look: Look) -> None:
    """Hood, drawstrings, kangaroo pocket, ribbed cuffs."""
    hem = look.between(76, 86)
    s.fill(mirrored("M0 1 Q13 1 15 14 L10 20 L0 22"), "main", shade=0.92)
    s.fill(mirrored("M0 5 Q9 5 10 14 Q6 21 0 22"), look.lining, light="flat")
    pair(s, outline("M13 14 Q23 15 27 25 Q34 46 35 64 L25 67 L18 40"), angle=-12)
    pair(s, outline("M25 66 L35 63 L35.5 71 L26.5 73"), "trim", light="flat")
    s.fill(mirrored(f"M0 22 Q8 20 11 11 Q19 13 21 18 L20 46 L22 {hem - 6} L0 {hem - 5}"))
    s.fill(mirrored("M0 25 Q10 23 14.5 9 L11 9 Q8 19 0 21"), "main", edge=0.6)
    s.fill(mirrored(f"M0 {hem - 6} L22 {hem - 7} L20.5 {hem} L0 {hem + 1}"), "trim", light="flat")
    s.fill(mirrored("M0 54 L9 54 L15 67 L15 72 L0 72.5"), "main", light="flat", edge=0.7)
    for x in (-3.4, 3.4):
        s.line(outline(f"M{x} 23 Q{x * 1.5} 32 {x * 1.2} 42"), (240, 236, 228), 1.1)
        s.fill(rounded(x * 1.2 - 0.8, 41, x * 1.2 + 0.8, 45, 0.5), look.metal, solid=False)
    folds(s, outline("M19 30 Q18 40 19 52"), 1.7)


def dress(s: Sketch, look: Look) -> None:
    """Sleeveless, fitted waist, flared skirt."""
    hem = look.between(72, 98)
    flare = 24 + (hem - 72) * 0.35
    s.fill(mirrored("M0 8 L9 6 L8 14 L0 20"), look.lining, edge=0.2, light="flat")
    s.fill(
        mirrored(
            f"M0 20 Q6 17 7 4 L11.5 4 Q12 15 15 21 Q14 32 11.5 40 Q17 60 {flare} {hem - 4} Q12 {hem + 2} 0 {hem + 1}"
        )
    )
    s.fill(mirrored("M0 39.2 L11.7 38 L11.7 42 L0 43.2"), "trim", light="flat", edge=0.5)
    folds(s, outline(f"M6 44 Q9 62 {flare * 0.65} {hem - 3}"), 2.4, 1.1)
    folds(s, outline(f"M2 46 Q3 66 {flare * 0.25} {hem - 1}"), 2.2, 1.1)
    folds(s, outline("M12 24 Q9 28 4 29"), 1.2, 0.9)


def shirt_dress(s: Sketch, look: Look) -> None:
    """Collared dress with sleeves, buttons and a belt."""
    hem = look.between(80, 98)
    s.fill(mirrored("M0 7 L6 5 L6 12 L0 14"), look.lining, edge=0.2)
    pair(s, outline("M11 8 Q18 9 21 17 L26 44 L19 46 L14 28"), angle=-12)
    s.fill(mirrored(f"M0 13 L6 6 Q12 7 15 11 L13 44 Q18 64 22 {hem - 3} Q11 {hem + 1} 0 {hem + 1}"))
    s.line(outline(f"M2 14 L2 {hem}"), look.ink, 0.4, opacity=0.7)
    s.line(outline(f"M-2 14 L-2 {hem}"), look.ink, 0.4, opacity=0.7)
    folds(s, outline(f"M8 48 Q12 66 14 {hem - 3}"), 2.2)
    for side in (-1, 1):
        collar = outline("M0 14 L5 5 L8 6 L10 14 L4 18")
        s.fill(collar if side > 0 else flip(collar), "main", light="flat")
    s.fill(rounded(-13.6, 42, 13.6, 46.4, 0.6), "trim", light="flat", edge=0.6)
    s.fill(rounded(-3, 41.4, 3, 47, 0.8), look.metal, light="flat", solid=False)
    s.fill(rounded(-1.6, 42.8, 1.6, 45.6, 0.4), "trim", edge=0.2, solid=False)
    _pearls(s, 0, 20, 38, 4)
    _pearls(s, 0, 51, hem - 10, 5)
