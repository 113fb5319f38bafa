"""Heads and tails of those who have a name: the six of the stories, and three newcomers that are
drawn for measurements alone (`world.NEWCOMERS`)."""

from __future__ import annotations

from datasets.cartoon.canvas import INK, Canvas, curve
from datasets.cartoon.figure import ORANGE, RED, WHITE, X, cheeks, eyes, mouth

FUR = {
    "pip": (255, 238, 122),
    "bruno": (166, 106, 66),
    "tiko": (252, 132, 44),
    "momo": (255, 184, 208),
    "zara": (124, 206, 84),
    "luna": (152, 158, 184),
    "milo": (232, 214, 178),
    "gus": (58, 62, 84),
    "olga": (140, 116, 150),
}
FEET = {"pip": ORANGE, "gus": ORANGE, "olga": (250, 196, 60)}  # others' are furry


def draw_tail(canvas: Canvas, name: str, lift: float, side: int) -> None:
    y = lift
    if name == "tiko":
        canvas.limb([(X + side * 12, 106 + y), (X + side * 24, 98 + y)], 14, FUR[name])
        canvas.ellipse(X + side * 25, 90 + y, 7, 10, FUR[name])
        canvas.ellipse(X + side * 26, 84 + y, 4.4, 5, WHITE, line=0)
    elif name == "luna":
        points = [(X + side * 12, 108 + y), (X + side * 25, 106 + y), (X + side * 27, 90 + y)]
        canvas.limb(points, 7, FUR[name])
    elif name == "milo":
        canvas.limb([(X + side * 12, 106 + y), (X + side * 26, 88 + y)], 6, (120, 74, 44))


def _chick(canvas: Canvas, y: float, action: str) -> None:
    for width, colour in ((9, INK), (5, FUR["pip"])):  # one tuft of three feathers
        for tip, top in ((-11, 28), (0, 32), (11, 28)):
            feather = [(X, y - 18), (X + tip * 0.4, y - 25), (X + tip, y - top)]
            canvas.stroke(feather, width, colour)
    canvas.ellipse(X, y, 23, 22, FUR["pip"])
    eyes(canvas, 10, y - 3, action)
    cheeks(canvas, 16, y + 7)
    if action == "jump":
        canvas.polygon([(X - 6, y + 9), (X + 6, y + 9), (X, y + 16)], RED, line=1.8)
    tip = 9 if action == "jump" else 12
    beak = [(X - 8, y + 6), (X, y + 1), (X + 8, y + 6), (X, y + tip)]
    canvas.polygon(beak, ORANGE, line=1.8)


def _bear(canvas: Canvas, y: float, action: str) -> None:
    for side in (-1, 1):
        canvas.ellipse(X + side * 17, y - 16, 9, 9, FUR["bruno"])
        canvas.ellipse(X + side * 17, y - 16, 4.5, 4.5, (232, 178, 128), line=0)
    canvas.ellipse(X, y, 24, 21, FUR["bruno"])
    canvas.ellipse(X, y + 9, 12, 9, (240, 200, 154), line=0)
    eyes(canvas, 10.5, y - 4, action)
    canvas.ellipse(X, y + 5, 4.5, 3.2, INK, line=0)
    mouth(canvas, y + 12, 5, action)


def _fox(canvas: Canvas, y: float, action: str) -> None:
    for side in (-1, 1):
        ear = [(X + side * 23, y - 30), (X + side * 23, y - 6), (X + side * 5, y - 17)]
        canvas.polygon(ear, FUR["tiko"])
        inner = [(X + side * 20.5, y - 24), (X + side * 20, y - 11), (X + side * 11, y - 16)]
        canvas.polygon(inner, (90, 50, 50), line=0)
    face = [*curve(X, y - 2, 23, 18, 180, 360), (X + 27, y + 8), (X + 12, y + 17), (X, y + 21),
            (X - 12, y + 17), (X - 27, y + 8)]  # fmt: skip
    canvas.polygon(face, FUR["tiko"])
    for side in (-1, 1):
        cheek = [(X + side * 2, y + 6), (X + side * 15, y + 4), (X + side * 24.5, y + 8),
                 (X + side * 11.5, y + 15.6), (X + side * 0, y + 19.5)]  # fmt: skip
        canvas.polygon(cheek, WHITE, line=0)
    eyes(canvas, 10, y - 3, action)
    canvas.ellipse(X, y + 7, 4, 3.2, INK, line=0)
    mouth(canvas, y + 13, 4.5, action)


def _rabbit(canvas: Canvas, y: float, action: str) -> None:
    for side in (-1, 1):
        canvas.ellipse(X + side * 9.5, y - 26, 7, 15, FUR["momo"])
        canvas.ellipse(X + side * 9.5, y - 25, 3.2, 10.5, (240, 110, 150), line=0)
    canvas.ellipse(X, y, 23, 20, FUR["momo"])
    eyes(canvas, 10.5, y - 2, action)
    cheeks(canvas, 17, y + 8)
    canvas.ellipse(X, y + 6, 3, 2.2, (226, 70, 110), line=0)
    if action in ("stand", "wave"):
        canvas.rectangle(X - 3, y + 11, X + 3, y + 16, WHITE, line=1.4)
    mouth(canvas, y + 11, 5, action)


def _frog(canvas: Canvas, y: float, action: str) -> None:
    for side in (-1, 1):
        canvas.ellipse(X + side * 13, y - 15, 10.5, 10.5, FUR["zara"])
    canvas.ellipse(X, y + 2, 25, 19, FUR["zara"])
    for side in (-1, 1):
        canvas.ellipse(X + side * 13, y - 13, 8, 7, FUR["zara"], line=0)
    eyes(canvas, 13, y - 15, action)
    cheeks(canvas, 19, y + 5)
    canvas.stroke(curve(X, y + 4, 14, 7, 10, 170), 2.2)
    if action == "jump":
        canvas.polygon(curve(X, y + 4, 14, 12, 0, 180), RED, line=1.8)


def _cat(canvas: Canvas, y: float, action: str) -> None:
    for side in (-1, 1):
        ear = [(X + side * 22, y - 27), (X + side * 23, y - 5), (X + side * 5, y - 18)]
        canvas.polygon(ear, FUR["luna"])
        inner = [(X + side * 19.5, y - 21), (X + side * 20, y - 11), (X + side * 11, y - 16)]
        canvas.polygon(inner, (255, 160, 180), line=0)
    canvas.ellipse(X, y, 24, 20, FUR["luna"])
    for dx in (-5, 0, 5):
        canvas.stroke([(X + dx, y - 17), (X + dx, y - 12)], 2.4, (90, 94, 124))
    canvas.ellipse(X, y + 10, 9, 6.5, (236, 238, 246), line=0)
    eyes(canvas, 11, y - 2, action)
    canvas.ellipse(X, y + 6, 2.8, 2.2, (240, 110, 140), line=0)
    for side in (-1, 1):
        for dy in (-1.5, 2.5):
            whisker = [(X + side * 16, y + 8 + dy * 0.6), (X + side * 28, y + 7 + dy * 1.8)]
            canvas.stroke(whisker, 1.6)
    mouth(canvas, y + 12, 4.5, action)


def _dog(canvas: Canvas, y: float, action: str) -> None:
    brown = (120, 74, 44)
    canvas.ellipse(X, y, 22, 21, FUR["milo"])
    canvas.ellipse(X + 10, y - 4, 9.5, 10.5, brown, line=0)  # a patch around one eye
    for side in (-1, 1):  # long ears that hang
        ear = [(X + side * 12, y - 19), (X + side * 27, y - 12), (X + side * 31, y + 12),
               (X + side * 24, y + 19), (X + side * 19, y + 4)]  # fmt: skip
        canvas.polygon(ear, brown)
    eyes(canvas, 9.5, y - 4, action)
    canvas.ellipse(X, y + 10, 12, 9, (250, 240, 220), line=1.4)
    canvas.ellipse(X, y + 5, 5.5, 3.8, INK, line=0)
    mouth(canvas, y + 13, 5, action)


def _penguin(canvas: Canvas, y: float, action: str) -> None:
    canvas.ellipse(X, y, 23, 24, FUR["gus"])
    for side in (-1, 1):  # a white face in the shape of a heart
        canvas.ellipse(X + side * 8, y - 1, 10, 12, WHITE, line=0)
    canvas.ellipse(X, y + 9, 15, 11, WHITE, line=0)
    eyes(canvas, 9, y - 3, action)
    cheeks(canvas, 13, y + 9)
    tip = 14 if action == "jump" else 10
    canvas.polygon([(X - 8, y + 4), (X + 8, y + 4), (X, y + tip)], (250, 120, 30), line=1.8)


def _owl(canvas: Canvas, y: float, action: str) -> None:
    for side in (-1, 1):  # tufts
        tuft = [(X + side * 26, y - 28), (X + side * 22, y - 4), (X + side * 4, y - 16)]
        canvas.polygon(tuft, FUR["olga"])
    canvas.ellipse(X, y, 25, 21, FUR["olga"])
    for side in (-1, 1):
        canvas.ellipse(X + side * 11, y - 2, 12.5, 12.5, (252, 226, 150), line=1.6)
    eyes(canvas, 11, y - 2, action)
    canvas.polygon([(X - 5, y + 3), (X + 5, y + 3), (X, y + 14)], (240, 150, 40), line=1.8)


HEADS = {
    "pip": _chick, "bruno": _bear, "tiko": _fox, "momo": _rabbit, "zara": _frog, "luna": _cat,
    "milo": _dog, "gus": _penguin, "olga": _owl,
}  # fmt: skip
