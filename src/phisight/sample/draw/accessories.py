"""Scarves, hats, eyewear, watches and jewellery."""

from __future__ import annotations

import numpy as np

from phisight.sample.draw.look import Look, folds, pair, seams
from phisight.sample.draw.outline import ellipse, flip, mirrored, outline, rounded
from phisight.sample.draw.sketch import Sketch

_GEM = (214, 236, 246)


def scarf(s: Sketch, look: Look) -> None:
    """Folded long scarf, knotted, with fringes."""
    hem = look.between(78, 90)
    for x in range(-12, 12, 2):
        s.line(outline(f"M{x - 8} {hem - 8} L{x - 9} {hem + 2}"), look.ink, 0.9, solid=True)
    for x in range(4, 27, 2):
        s.line(outline(f"M{x} {hem} L{x + 0.6} {hem + 9.5}"), look.ink, 0.9, solid=True)
    s.fill(outline(f"M-14 30 L4 30 L2 {hem - 7} L-21 {hem - 7}"), "main", shade=0.82, angle=4)
    s.fill(outline(f"M-3 30 L15 28 L27 {hem} L4 {hem + 1}"), "main", angle=-6)
    s.fill(outline("M0 6 Q24 6 26 20 Q24 33 2 37 Q-24 35 -26 22 Q-24 7 0 6"), "main", angle=18)
    s.fill(outline("M0 11 Q14 11 15 18 Q13 23 0 24 Q-14 23 -15 18 Q-13 11 0 11"), look.lining, light="flat", edge=0.6)
    s.fill(
        outline("M-26 20 Q-20 34 2 36 Q24 32 26 18 Q24 30 10 41 Q-6 44 -18 37 Q-25 30 -26 20"),
        "main",
        angle=-14,
        edge=0.6,
    )
    s.fold(outline("M-18 30 Q-2 40 20 29"), 1.6, 1.2)
    s.fold(outline(f"M4 40 Q10 60 14 {hem - 3}"), 2.0, 1.2)
    s.fold(outline(f"M-8 42 Q-9 60 -11 {hem - 9}"), 1.8, 1.1)


def square_scarf(s: Sketch, look: Look) -> None:
    """A silk square laid flat, with a border."""
    s.fill(outline("M-42 10 Q0 7 42 10 Q44 50 42 92 Q0 94 -42 92 Q-44 50 -42 10"), "trim", light="flat")
    s.fill(outline("M-36 16 Q0 13 36 16 Q38 50 36 86 Q0 88 -36 86 Q-38 50 -36 16"), "main", light="flat", edge=0.6)
    s.fold(outline("M-40 30 Q0 44 42 28"), 3.0, 1.0)
    s.fold(outline("M-20 92 Q-2 60 8 9"), 3.0, 0.9)
    s.line(outline("M-33 19 Q0 16 33 19 Q35 50 33 83 Q0 85 -33 83 Q-35 50 -33 19"), look.metal, 0.7)


def fedora(s: Sketch, look: Look) -> None:
    """Pinched crown, ribbon and brim."""
    brim = look.between(38, 48)
    s.fill(outline(f"M{-brim} 68 Q-20 58 0 58 Q20 58 {brim} 68 Q20 82 0 82 Q-20 82 {-brim} 68"), "main", light="ball")
    s.fill(mirrored("M0 26 Q6 20 15 22 Q25 26 27 66 Q14 73 0 73"))
    s.fold(outline("M-8 25 Q0 36 8 25"), 2.4, 1.6)
    s.fill(mirrored("M0 62 Q14 62 26 56 L27 66 Q14 73 0 73"), look.ink if look.style else "trim", light="flat")
    s.line(outline("M18 58 L22 68"), look.metal, 0.8)
    s.line(outline(f"M{-brim + 2} 68.5 Q-20 80 0 80 Q20 80 {brim - 2} 68.5"), look.ink, 0.4, opacity=0.6)


def bucket_hat(s: Sketch, look: Look) -> None:
    """Stitched sloping brim."""
    s.fill(mirrored("M0 22 Q20 22 23 30 L26 55 Q14 61 0 61"))
    s.fill(mirrored("M0 22 Q20 22 22.6 29 Q12 34 0 34"), "main", light="flat", edge=0.5)
    low = look.between(78, 86)
    s.fill(mirrored(f"M0 60 Q14 60 26 54 L41 {low - 8} Q24 {low + 2} 0 {low + 2}"))
    for step in range(1, 4):
        share = step / 4
        seams(
            s,
            outline(
                f"M0 {60 + share * (low - 58)} Q{16 + share * 8} "
                f"{60 + share * (low - 58)} {26 + 15 * share} {54 + share * (low - 62)}"
            ),
            look.thread,
            0.4,
            opacity=0.9,
            dash=1.0,
        )
    for x in (-17, 17):
        s.fill(ellipse(x, 46, 1.2, 1.6), look.metal, light="ball", solid=False)


def cap(s: Sketch, look: Look) -> None:
    """Baseball cap, three-quarter view."""
    s.fill(outline("M-34 64 Q-36 28 -2 26 Q30 26 32 58 Q0 68 -34 64"), light="ball")
    s.line(outline("M-2 26 Q6 44 4 64"), look.ink, 0.5, opacity=0.7)
    s.line(outline("M-2 26 Q-22 40 -24 65"), look.ink, 0.5, opacity=0.7)
    s.line(outline("M-2 26 Q22 34 25 60"), look.ink, 0.5, opacity=0.7)
    s.fill(outline("M-4 65 Q16 64 32 57 Q48 66 47 76 Q26 70 6 74 Q-4 72 -4 65"), "trim", light="flat", edge=0.7)
    for step in range(2):
        s.line(
            outline(f"M0 {68 + step * 2} Q20 {67 + step * 2} {38 + step * 3} {68 + step * 2}"),
            look.thread,
            0.35,
            dash=0.9,
        )
    s.fill(ellipse(-2, 26, 2.4, 1.6), "trim", light="ball")
    for x, y in ((-13, 44), (12, 42)):
        s.line(ellipse(x, y, 1.2, 1.2, 12), look.ink, 0.6)


def beanie(s: Sketch, look: Look) -> None:
    """Ribbed knit with a turned-up edge, with or without a pompom."""
    if look.style:
        s.fill(ellipse(0, 15, 10, 10), "trim", light="ball")
        rng = np.random.default_rng(3)
        for angle in rng.uniform(0, 2 * np.pi, 60):
            x, y = 8.5 * np.cos(angle), 15 + 8.5 * np.sin(angle)
            s.line(outline(f"M{x:.2f} {y:.2f} L{x * 1.3:.2f} {15 + (y - 15) * 1.3:.2f}"), look.ink, 0.5, opacity=0.45)
    s.fill(mirrored("M0 22 Q26 23 30 66 Q15 70 0 70"))
    for x in range(0, 30, 4):
        folds(s, outline(f"M{x * 0.5} 24 Q{x * 0.95} 40 {x} 66"), 1.4, 1.0)
    s.fill(mirrored("M0 62 Q18 62 31 58 L32 76 Q18 81 0 81"), "trim", edge=0.7)
    for x in range(-30, 31, 3):
        s.line(outline(f"M{x} {62.5 - abs(x) * 0.08} L{x} {80.5 - abs(x) * 0.12}"), look.ink, 0.4, opacity=0.35)


def gloves(s: Sketch, look: Look) -> None:
    """A pair of gloves."""
    glove = outline(
        "M6 92 L6 62 Q2 50 3 40 L4 16 Q6 12 8 16 L9.5 36 L11 10 Q13 6 15.5 10 L16.4 36 L19 11 Q21.6 8 23 12 L23 38 "
        "L27 20 Q29.6 17 31 21 L29 46 Q34 44 37 38 Q41 36 41 40 Q38 52 30 62 L29 92 Q18 96 6 92"
    ) - [3.0, 0.0]
    pair(s, glove, angle=-6)
    pair(s, outline("M2.6 80 L26.6 80 L26.4 93 Q15 97 2.6 93"), "trim", light="flat")
    for x in (8, 13, 18):
        seams(s, outline(f"M{x} 42 L{x} 58"), look.ink, 0.5)
    seams(s, outline("M4 82.5 L26 82.5"), look.thread, 0.4, opacity=0.9, dash=1.0)


def sunglasses(s: Sketch, look: Look) -> None:
    """Frames from the front, tinted lenses."""
    half = look.between(17, 20)
    s.line(outline("M-44 44 Q-48 40 -47 36"), look.ink, 2.0, solid=True)
    s.line(outline("M44 44 Q48 40 47 36"), look.ink, 2.0, solid=True)
    for side in (-1, 1):
        if look.style == 0:
            lens = outline(f"M4 40 Q22 34 {half * 2 + 6} 38 Q{half * 2 + 9} 52 {half * 2} 64 Q22 72 9 62 Q3 52 4 40")
        elif look.style == 1:
            lens = ellipse(24, 52, half + 1, half)
        else:
            lens = outline(f"M4 40 Q26 42 {half * 2 + 10} 32 Q{half * 2 + 10} 52 34 63 Q14 70 6 56 Q3 48 4 40")
        frame = lens if side > 0 else flip(lens)
        center = frame.mean(axis=0)
        s.fill(center + (frame - center) * 1.16, "main", light="flat", edge=0.8)
        s.fill(frame, (52, 46, 44), light="ball", edge=0.8)
        glare = center + np.array([[-9.0, -9.0], [-3.0, -12.0], [-8.0, 4.0], [-12.0, 2.0]])
        s.fill(glare, (120, 116, 118), light="flat", edge=0, solid=False)
    s.fill(mirrored("M0 42 Q3 42 6 45 L6 48 Q3 45.4 0 45.4"), "main", light="flat", edge=0.8)
    for x in (-42, 42):
        s.fill(ellipse(x, 41, 1.4, 1.4), look.metal, light="ball", solid=False)


def watch(s: Sketch, look: Look) -> None:
    """Round face, strap, crown."""
    radius = look.between(18, 23)
    pair_half = radius * 0.56
    s.fill(mirrored(f"M0 2 L{pair_half * 0.9} 2 L{pair_half} {50 - radius + 3} L0 {50 - radius + 3}"))
    s.fill(mirrored(f"M0 {47 + radius} L{pair_half} {47 + radius} L{pair_half * 0.9} 97 Q{pair_half * 0.5} 99 0 99"))
    for y in (86, 91):
        s.fill(ellipse(0, y, 1, 1), look.ink, edge=0, solid=False)
    seams(s, outline(f"M{pair_half * 0.8} 4 L{pair_half * 0.86} {50 - radius}"), look.thread, 0.4, dash=0.9)
    seams(s, outline(f"M{pair_half * 0.86} {50 + radius} L{pair_half * 0.8} 96"), look.thread, 0.4, dash=0.9)
    s.fill(rounded(radius - 1, 47, radius + 4, 53, 1), look.metal, light="flat")
    s.fill(ellipse(0, 50, radius + 2.5, radius + 2.5), look.metal, light="ball", edge=0.8)
    s.fill(
        ellipse(0, 50, radius - 0.6, radius - 0.6),
        (246, 244, 238) if look.style != 1 else (32, 34, 42),
        light="ball",
        solid=False,
    )
    ink = (40, 40, 44) if look.style != 1 else (230, 230, 226)
    for hour in range(12):
        angle = hour * np.pi / 6
        low, high = (0.74, 0.9) if hour % 3 == 0 else (0.82, 0.9)
        x, y = np.sin(angle), -np.cos(angle)
        s.line(
            outline(
                f"M{x * radius * low:.3f} {50 + y * radius * low:.3f} "
                f"L{x * radius * high:.3f} {50 + y * radius * high:.3f}"
            ),
            ink,
            1.0,
        )
    s.line(outline(f"M0 50 L{-radius * 0.32} {50 - radius * 0.36}"), ink, 1.5)
    s.line(outline(f"M0 50 L{radius * 0.36} {50 - radius * 0.58}"), ink, 1.0)
    s.fill(ellipse(0, 50, 1.3, 1.3), look.metal, solid=False)


def earrings(s: Sketch, look: Look) -> None:
    """A pair of drop earrings."""
    drop = look.between(64, 80)
    for x in (-18.0, 18.0):
        s.line(outline(f"M{x} 22 Q{x + 7} 14 {x + 4} 24 L{x} 34"), look.metal, 1.3, solid=True)
        s.fill(ellipse(x, 36, 4, 4), look.metal, light="ball")
        s.line(outline(f"M{x} 40 L{x} {drop - 16}"), look.metal, 1.2, solid=True)
        if look.style == 0:
            s.line(ellipse(x, drop - 7, 9, 9), look.metal, 3.0, solid=True)
        elif look.style == 1:
            s.fill(
                outline(f"M{x} {drop - 17} Q{x + 11} {drop} {x} {drop + 5} Q{x - 11} {drop} {x} {drop - 17}"),
                "main",
                light="ball",
            )
        else:
            s.fill(ellipse(x, drop - 6, 8, 8), (240, 234, 222), light="ball")
        s.fill(ellipse(x, 36, 2, 2), _GEM, light="ball", solid=False)


def necklace(s: Sketch, look: Look) -> None:
    """A chain with a pendant."""
    deep = look.between(62, 78)
    t = np.linspace(0, 1, 44)
    x = -36 * (1 - t) ** 2 + 36 * t**2
    y = 6 * (1 - t) ** 2 + 2 * (1 - t) * t * (2 * deep - 6) + 6 * t**2
    for index in range(len(t)):
        s.line(ellipse(float(x[index]), float(y[index]), 1.5, 1.1, 10), look.metal, 0.9, solid=True)
    if look.style == 0:
        s.fill(
            outline(
                f"M0 {deep + 4} Q10 {deep - 6} 12 {deep + 4} Q12 {deep + 11} 0 {deep + 20} "
                f"Q-12 {deep + 11} -12 {deep + 4} Q-10 {deep - 6} 0 {deep + 4}"
            ),
            "main",
            light="ball",
        )
    elif look.style == 1:
        s.fill(ellipse(0, deep + 9, 9, 9), look.metal, light="ball")
        s.fill(ellipse(0, deep + 9, 5.5, 5.5), "main", light="ball", solid=False)
    else:
        s.fill(outline(f"M0 {deep + 1} L9 {deep + 9} L0 {deep + 21} L-9 {deep + 9}"), "main", light="ball")
        s.line(outline(f"M-9 {deep + 9} L9 {deep + 9}"), (255, 255, 255), 0.6, opacity=0.7)


def ring(s: Sketch, look: Look) -> None:
    """A ring with a stone."""
    s.line(ellipse(0, 62, 26, 27, 60), look.metal, look.between(5, 8), solid=True)
    s.line(ellipse(-1.4, 60.6, 26, 27, 60), (255, 250, 235), 0.9, opacity=0.8)
    s.fill(outline("M-8 34 L8 34 L5 40 L-5 40"), look.metal, light="flat")
    s.fill(outline("M-14 20 L-8 12 L8 12 L14 20 L0 38"), "main", light="ball", edge=0.8)
    for start in (-8, 0, 8):
        s.line(outline(f"M{start} 12 L{start * 0.6} 20 L0 38"), (255, 255, 255), 0.5, opacity=0.75)
    s.line(outline("M-14 20 L14 20"), (255, 255, 255), 0.5, opacity=0.75)


def bracelet(s: Sketch, look: Look) -> None:
    """A cuff seen from above, with an enamel band."""
    wide = look.between(9, 16)
    s.fill(ellipse(0, 42, 40, 17), look.metal, shade=0.6)
    s.fill(ellipse(0, 42, 35, 13.4), (236, 234, 230), light="flat", edge=0.4)
    s.fill(
        outline(
            f"M-40 42 Q-38 60 0 60 Q38 60 40 42 L40 {42 + wide} Q38 "
            f"{62 + wide} 0 {62 + wide} Q-38 {62 + wide} -40 {42 + wide}"
        ),
        look.metal,
    )
    s.fill(
        outline(
            f"M-39 46 Q-36 63 0 63 Q36 63 39 46 L39 {39 + wide} Q36 "
            f"{58 + wide} 0 {58 + wide} Q-36 {58 + wide} -39 {39 + wide}"
        ),
        "main",
    )


def perfume(s: Sketch, look: Look) -> None:
    """A glass bottle with a cap."""
    half = look.between(18, 26)
    s.fill(rounded(-half, 38, half, 94, 4), (226, 232, 236), edge=0.7)
    s.fill(rounded(-half + 3, 52, half - 3, 91, 3), "main", edge=0.2, solid=False)
    s.fill(rounded(-half * 0.5, 60, half * 0.5, 80, 0.6), (247, 245, 240), light="flat", solid=False)
    for y in (67, 71):
        s.line(outline(f"M{-half * 0.34} {y} L{half * 0.34} {y}"), (70, 66, 64), 0.7)
    s.fill(rounded(-6, 30, 6, 39, 0.6), look.metal)
    s.fill(rounded(-9, 8, 9, 31, 1.5), "trim")
    s.line(outline(f"M{-half + 3.4} 42 L{-half + 3.4} 88"), (255, 255, 255), 1.4, opacity=0.7)
