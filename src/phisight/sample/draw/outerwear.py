"""Coats and jackets."""

from __future__ import annotations

from phisight.sample.draw.look import Look, folds, pair, seams
from phisight.sample.draw.outline import ellipse, flip, mirrored, outline, rounded
from phisight.sample.draw.sketch import Sketch


def _buttons(s: Sketch, look: Look, xs: list[float], ys: list[float], radius: float = 1.2) -> None:
    for y in ys:
        for x in xs:
            s.fill(ellipse(x, y, radius, radius), look.metal, light="ball", solid=False)


def trench_coat(s: Sketch, look: Look) -> None:
    """Double-breasted, belted, storm flap, wide lapels."""
    hem = look.between(82, 97)
    s.fill(mirrored("M0 7 L8 5 L8 14 L0 16"), look.lining, edge=0.2)
    pair(s, outline("M12 9 Q20 10 23 19 L32 60 Q32 63 29 64 L22 66 L15 36"), angle=-12)
    seams(s, outline("M21 60 L31.5 57"), look.ink, 0.5)
    s.fill(mirrored(f"M0 15 L7 7 Q15 8 18 13 L16 45 L22 {hem - 1} Q11 {hem + 1.5} 0 {hem + 2}"))
    s.fill(outline("M3 14 L14 9 L17 14 L16 29 Q9 33 4 29"), "main", edge=0.4, light="flat")
    s.line(outline(f"M6 34 L6 {hem + 1}"), look.ink, 0.5, opacity=0.6)
    folds(s, outline(f"M10 52 Q13 70 14 {hem - 4}"), 2.2)
    folds(s, outline("M17 18 Q18 28 17 40"), 1.5)
    s.fill(outline("M0 17 L-7 6 L-13 11 L-10 16 L-14 19 L-3 36 L0 33"), "main", light="flat", angle=18)
    s.fill(outline("M0 17 L7 6 L13 11 L10 16 L14 19 L3 36 L0 33"), "main", light="flat", angle=-18)
    s.fill(mirrored("M0 5 L7 4 L9 8 L6 11 Q3 8 0 9"), "main", light="flat")
    s.fill(rounded(-16.6, 44, 16.6, 49.5, 0.8), "main", light="flat")
    seams(s, outline("M0 45 L16 45"), look.ink, 0.25)
    seams(s, outline("M0 48.5 L16 48.5"), look.ink, 0.25)
    s.fill(rounded(1, 43, 8, 50.5, 1), look.metal, light="flat", solid=False)
    s.fill(rounded(2.6, 44.8, 6.4, 48.7, 0.5), "main", edge=0.2, solid=False)
    s.fill(outline("M9 49 L14 49 L15 62 L11 63"), "main", light="flat")
    _buttons(s, look, [-6, 6], [38, 56, 66])
    seams(s, outline("M11 56 L16 67"), look.ink, 0.7)
    seams(s, outline("M9 9 L17 12.5"), look.ink, 0.6)


def wool_coat(s: Sketch, look: Look) -> None:
    """Single-breasted overcoat with notch lapels and flap pockets."""
    hem = look.between(78, 97)
    s.fill(mirrored("M0 7 L7 5 L7 14 L0 16"), look.lining, edge=0.2)
    pair(s, outline("M12 8 Q19 9 22 17 L29 62 Q29 65 26 66 L20 66 L15 34"), angle=-9)
    s.fill(mirrored(f"M0 15 L6 6 Q14 7 17 12 L16 50 L19 {hem - 1} Q9 {hem + 1} 0 {hem + 1}"))
    s.line(outline(f"M2 36 L2 {hem + 1}"), look.ink, 0.5, opacity=0.7)
    folds(s, outline(f"M11 60 Q13 75 13 {hem - 3}"), 2.0)
    folds(s, outline("M16 16 Q17 27 16 40"), 1.4)
    for side in (-1, 1):
        lapel = outline("M0 20 L6 6 L11 10 L9 15 L13 18 L2 38")
        s.fill(lapel if side > 0 else flip(lapel), "main", light="flat", angle=-14 * side)
    s.fill(mirrored("M0 6 L6 4.5 L9 9 L6 12 Q3 8 0 9"), "trim", light="flat")
    pair(s, outline("M5 60 L15 58.5 L15.5 63 L5.5 64.5"), light="flat")
    _buttons(s, look, [0.0], [42, 52, 62], 1.3)


def puffer_jacket(s: Sketch, look: Look) -> None:
    """Horizontal puffs, high collar, zip."""
    hem = look.between(66, 84)
    for row in range(6):
        top = 14 + row * 8
        bulge = 24 + row * 2.2
        pair(
            s,
            outline(
                f"M13 {top} Q{bulge} {top - 3} {bulge + 3} {top + 2} Q{bulge + 5} "
                f"{top + 7} {bulge + 1} {top + 10} L14 {top + 11}"
            ),
            angle=-15,
        )
    rows = 7
    step = (hem - 12) / rows
    for row in range(rows):
        upper = 12 + row * step
        s.fill(
            mirrored(f"M0 {upper} L16 {upper} Q21 {upper + step / 2} 17 {upper + step + 1} L0 {upper + step + 1.5}"),
            light="round",
        )
        seams(
            s, outline(f"M0 {upper + step + 0.5} Q9 {upper + step + 1.6} 17 {upper + step}"), look.ink, 0.6, opacity=0.6
        )
        seams(s, outline(f"M3 {upper + 1.6} Q9 {upper + 0.8} 15 {upper + 2}"), (255, 255, 255), 0.9, opacity=0.3)
    s.fill(mirrored("M0 3 Q9 2.5 10 7 L11 15 Q6 18 0 18"), "main")
    seams(s, outline("M0 9 Q6 8 10.3 10"), look.ink, 0.5)
    s.line(outline(f"M0 5 L0 {hem}"), look.ink, 1.6, opacity=0.9)
    s.line(outline(f"M0 5 L0 {hem}"), look.metal, 0.8)
    s.fill(rounded(-0.9, 18, 0.9, 23, 0.6), look.metal, solid=False)


def bomber_jacket(s: Sketch, look: Look) -> None:
    """Short, ribbed collar, cuffs and hem, zip."""
    hem = look.between(62, 72)
    pair(s, outline("M13 10 Q21 11 25 20 Q33 40 34 58 L25 61 L16 36"), angle=-14)
    pair(s, outline("M25 60 L34 57 Q35 61 34 63 L26 66 Q25 63 25 60"), "trim", light="flat", angle=-14)
    s.fill(mirrored(f"M0 11 L8 8 Q16 10 19 14 Q20 40 21 {hem - 6} L0 {hem - 5}"))
    s.fill(mirrored(f"M0 {hem - 6} L20.5 {hem - 7} Q20 {hem - 3} 18.5 {hem} L0 {hem + 1}"), "trim", light="flat")
    s.fill(mirrored("M0 8 L6 6 Q11 8 10 12 Q5 14 0 15"), "trim", light="flat")
    for x in range(-18, 19, 2):
        s.line(outline(f"M{x} {hem - 5.5} L{x * 0.93} {hem}"), look.ink, 0.25, opacity=0.35)
    folds(s, outline("M17 20 Q17 34 20 46"), 1.6)
    folds(s, outline(f"M8 {hem - 8} Q9 50 12 40"), 1.2)
    seams(s, outline("M9 44 L14 54"), look.ink, 0.9)
    seams(s, outline("M9.5 44.6 L13.6 53"), look.metal, 0.4, opacity=1)
    s.line(outline(f"M0 10 L0 {hem}"), look.ink, 1.4)
    s.line(outline(f"M0 10 L0 {hem}"), look.metal, 0.7)
    s.fill(rounded(-0.8, 20, 0.8, 25, 0.6), look.metal, solid=False)


def blazer(s: Sketch, look: Look) -> None:
    """Tailored jacket: notch lapels, breast pocket, rounded front."""
    hem = look.between(70, 79)
    s.fill(mirrored("M0 8 L6 5 L9 20 L0 42"), look.lining, edge=0.2, light="flat")
    pair(s, outline("M12 9 Q20 10 23 18 L30 64 L22 67 L15 34"), angle=-9)
    for side in (-1, 1):
        front = outline(
            f"M-1.5 44 L5 6 Q14 8 18 13 Q15 40 19 {hem - 2} Q12 {hem + 2} 5 {hem + 1} Q-2 {hem - 3} -1.5 44"
        )
        s.fill(front if side > 0 else flip(front))
        lapel = outline("M-1 43 L5 6 L10 9 L9 14 L14 17 Q9 33 -1 43")
        s.fill(lapel if side > 0 else flip(lapel), "main", light="flat", angle=-12 * side)
    folds(s, outline(f"M11 50 Q14 60 14 {hem - 4}"), 1.5)
    pair(s, outline("M6 56 L15.5 54.5 L16 58 L6.5 59.5"), light="flat")
    s.fill(outline("M7 30 L14 29 L14.2 31 L7.2 32"), "trim", light="flat", solid=False)
    _buttons(s, look, [0.3], [47, 55], 1.2)
    for step in range(3):
        seams(s, ellipse(25.5 + step * 0.35, 60 + step * 2 - 2, 0.5, 0.5), look.metal, 0.5, opacity=1)


def gilet(s: Sketch, look: Look) -> None:
    """Sleeveless padded waistcoat."""
    hem = look.between(70, 84)
    s.fill(mirrored("M0 8 L15 12 L13 40 L0 40"), look.lining, edge=0.2)
    body = f"M0 12 L7 8 L16 11 Q13 22 19 32 L20 {hem - 3} Q10 {hem} 0 {hem}"
    s.fill(mirrored(body))
    for row in range(1, 6):
        y = 20 + row * (hem - 24) / 6
        seams(s, outline(f"M0 {y} Q10 {y + 1.2} 19 {y - 0.6}"), look.ink, 0.7, opacity=0.55)
        seams(s, outline(f"M2 {y + 2} Q10 {y + 3} 17 {y + 1.5}"), (255, 255, 255), 0.9, opacity=0.28)
    s.fill(mirrored("M0 5 L7 4 Q10 8 9 14 Q4 17 0 17"), "trim")
    seams(s, outline("M16 11 Q13 22 19 32"), look.ink, 1.2, opacity=0.5)
    s.line(outline(f"M0 6 L0 {hem}"), look.ink, 1.5)
    s.line(outline(f"M0 6 L0 {hem}"), look.metal, 0.7)


def cape(s: Sketch, look: Look) -> None:
    """Draped cape with arm slits and a tied neck."""
    hem = look.between(72, 90)
    s.fill(mirrored("M0 7 L6 6 L7 13 L0 15"), look.lining, edge=0.2)
    s.fill(mirrored(f"M0 12 L6 7 Q17 10 22 24 Q32 50 38 {hem - 8} Q24 {hem + 3} 0 {hem + 2}"))
    s.line(outline(f"M0 16 L1 {hem + 2}"), look.ink, 0.8)
    folds(s, outline(f"M12 16 Q20 46 26 {hem - 4}"), 2.6)
    folds(s, outline(f"M6 22 Q10 54 11 {hem - 1}"), 2.2)
    seams(s, outline("M17 42 L21 60"), look.ink, 1.3, opacity=0.9)
    s.fill(mirrored("M0 6 L6 5 L10 12 L4 18 L0 13"), "trim", light="flat")
    _buttons(s, look, [0], [21, 29], 1.5)
