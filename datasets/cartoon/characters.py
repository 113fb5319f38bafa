"""The characters: one shared chibi body in a big shirt, four poses, and a head for each.

Six of them live in the stories; three more are drawn for measurements alone (`world.NEWCOMERS`),
and any number of strangers for bases that are to learn new ones.
"""

from __future__ import annotations

from datasets.cartoon.canvas import INK, Canvas, Colour, curve
from datasets.cartoon.strangers import Stranger, stranger
from datasets.cartoon.world import NEWCOMERS, PRONOUNS, SHIRTS

_X = 64  # every character is drawn in the middle and pasted into its slot
_WHITE = (255, 255, 255)
_BLUSH = (255, 138, 138)
_ORANGE = (255, 140, 30)
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
FEET = {"pip": _ORANGE, "gus": _ORANGE, "olga": (250, 196, 60)}  # others' are furry
_HES = {name for name, pronoun in PRONOUNS.items() if pronoun == "he"}
_HES |= {name for name, (_, pronoun) in NEWCOMERS.items() if pronoun == "he"}


def draw_character(name: str, shirt: str, action: str, side: int | None = None) -> Canvas:
    """One dressed character in the pose of `action`, standing at the middle of a clear board.

    side: to which it acts, left (-1) or right (1). None: he to the left of the picture and she to
    the right, so that a pair in fixed slots never collides.
    """
    canvas, other = Canvas(), stranger(name)
    fur = other.fur if other else FUR[name]
    feet = other.feet_colour if other else FEET.get(name, fur)
    if side is None:
        side = -1 if name in _HES or (other and other.pronoun == "he") else 1
    lift = {"jump": -14, "sleep": 7}.get(action, 0)
    shadow = 17 if action == "jump" else 24
    canvas.ellipse(_X, 119, shadow, 4.5, (30, 20, 60, 90), line=0)
    if other:
        _stranger_tail(canvas, other, lift, -side)
    else:
        _tail(canvas, name, lift, -side)
    _body(canvas, fur, feet, SHIRTS[shirt], action, lift)
    _arms(canvas, fur, SHIRTS[shirt], action, side, lift, raised=False)
    head = Canvas()
    y = 57 + lift
    if other:
        _stranger_head(head, other, y, action)
    else:
        _HEADS[name](head, y, action)
    canvas.overlay(head.rotated(9 * side, (_X, y + 18)) if action == "sleep" else head.image)
    _arms(canvas, fur, SHIRTS[shirt], action, side, lift, raised=True)
    if action == "sleep":
        _letter_z(canvas, _X + side * 26, 34, 12)
        _letter_z(canvas, _X + side * 22, 16, 8)
    return canvas


def _tail(canvas: Canvas, name: str, lift: float, side: int) -> None:
    y = lift
    if name == "tiko":
        canvas.limb([(_X + side * 12, 106 + y), (_X + side * 24, 98 + y)], 14, FUR[name])
        canvas.ellipse(_X + side * 25, 90 + y, 7, 10, FUR[name])
        canvas.ellipse(_X + side * 26, 84 + y, 4.4, 5, _WHITE, line=0)
    elif name == "luna":
        points = [(_X + side * 12, 108 + y), (_X + side * 25, 106 + y), (_X + side * 27, 90 + y)]
        canvas.limb(points, 7, FUR[name])
    elif name == "milo":
        canvas.limb([(_X + side * 12, 106 + y), (_X + side * 26, 88 + y)], 6, (120, 74, 44))


def _body(
    canvas: Canvas, fur: Colour, feet: Colour, shirt: Colour, action: str, lift: float
) -> None:
    if action == "sleep":
        for side in (-1, 1):
            canvas.limb([(_X + side * 8, 107), (_X + side * 14, 112)], 11, fur)
            canvas.ellipse(_X + side * 15, 113, 7.5, 6.5, feet)
        _shirt(canvas, shirt, 76 + lift, 101 + lift)
        return
    spread = 14 if action == "jump" else 9
    for side in (-1, 1):
        canvas.limb([(_X + side * 8, 100 + lift), (_X + side * spread, 112 + lift)], 9, fur)
        canvas.ellipse(_X + side * (spread + 1), 115 + lift, 7.5, 4.5, feet)
    _shirt(canvas, shirt, 74 + lift, 107 + lift)


def _shirt(canvas: Canvas, shirt: Colour, top: float, bottom: float) -> None:
    hem = [(_X + 17, bottom - 3), (_X + 14, bottom), (_X - 14, bottom), (_X - 17, bottom - 3)]
    canvas.polygon([(_X - 12, top), (_X + 12, top), *hem], shirt)


def _arms(
    canvas: Canvas, fur: Colour, shirt: Colour, action: str, wave: int, lift: float, raised: bool
) -> None:
    for side in (-1, 1):
        up = action == "jump" or (action == "wave" and side == wave)
        if up != raised:
            continue
        shoulder = (_X + side * 14, 84 + lift)
        elbow, hand = (_X + side * 19, 92 + lift), (_X + side * 21, 100 + lift)
        if up:
            elbow, hand = (_X + side * 25, 77 + lift), (_X + side * 28, 65 + lift)
        canvas.ellipse(*hand, 5, 5, fur)
        canvas.limb([shoulder, elbow], 9, shirt)


def _letter_z(canvas: Canvas, x: float, y: float, size: float) -> None:
    h = size / 2
    points = [(x - h, y - h), (x + h, y - h), (x - h, y + h), (x + h, y + h)]
    canvas.stroke(points, 4.6)
    canvas.stroke(points, 2.4, _WHITE)


def _eyes(canvas: Canvas, x: float, y: float, action: str, white: bool = True) -> None:
    for side in (-1, 1):
        cx = _X + side * x
        if action == "sleep":
            canvas.stroke(curve(cx, y, 5, 4, 10, 170), 2.2)
            continue
        canvas.ellipse(cx, y, 6, 7, _WHITE, line=1.6)
        canvas.ellipse(cx - side * 0.8, y + 0.8, 3.8, 4.8, INK, line=0)
        canvas.ellipse(cx - 1.6, y - 1.6, 1.7, 1.7, _WHITE, line=0)


def _cheeks(canvas: Canvas, x: float, y: float) -> None:
    for side in (-1, 1):
        canvas.ellipse(_X + side * x, y, 3.6, 2.6, _BLUSH, line=0)


def _mouth(canvas: Canvas, y: float, width: float, action: str) -> None:
    """A smile; wide open in a jump, a small round breath in sleep."""
    if action == "jump":
        canvas.polygon(curve(_X, y - 1, width, 7, 0, 180), (190, 40, 60), line=1.8)
    elif action == "sleep":
        canvas.ellipse(_X, y + 1, 2, 2, (190, 40, 60), line=1.4)
    else:
        canvas.stroke(curve(_X, y - 2, width, 4, 10, 170), 2)


def _chick(canvas: Canvas, y: float, action: str) -> None:
    for width, colour in ((9, INK), (5, FUR["pip"])):  # one tuft of three feathers
        for tip, top in ((-11, 28), (0, 32), (11, 28)):
            feather = [(_X, y - 18), (_X + tip * 0.4, y - 25), (_X + tip, y - top)]
            canvas.stroke(feather, width, colour)
    canvas.ellipse(_X, y, 23, 22, FUR["pip"])
    _eyes(canvas, 10, y - 3, action)
    _cheeks(canvas, 16, y + 7)
    if action == "jump":
        canvas.polygon([(_X - 6, y + 9), (_X + 6, y + 9), (_X, y + 16)], (190, 40, 60), line=1.8)
    tip = 9 if action == "jump" else 12
    beak = [(_X - 8, y + 6), (_X, y + 1), (_X + 8, y + 6), (_X, y + tip)]
    canvas.polygon(beak, _ORANGE, line=1.8)


def _bear(canvas: Canvas, y: float, action: str) -> None:
    for side in (-1, 1):
        canvas.ellipse(_X + side * 17, y - 16, 9, 9, FUR["bruno"])
        canvas.ellipse(_X + side * 17, y - 16, 4.5, 4.5, (232, 178, 128), line=0)
    canvas.ellipse(_X, y, 24, 21, FUR["bruno"])
    canvas.ellipse(_X, y + 9, 12, 9, (240, 200, 154), line=0)
    _eyes(canvas, 10.5, y - 4, action)
    canvas.ellipse(_X, y + 5, 4.5, 3.2, INK, line=0)
    _mouth(canvas, y + 12, 5, action)


def _fox(canvas: Canvas, y: float, action: str) -> None:
    for side in (-1, 1):
        ear = [(_X + side * 23, y - 30), (_X + side * 23, y - 6), (_X + side * 5, y - 17)]
        canvas.polygon(ear, FUR["tiko"])
        inner = [(_X + side * 20.5, y - 24), (_X + side * 20, y - 11), (_X + side * 11, y - 16)]
        canvas.polygon(inner, (90, 50, 50), line=0)
    face = [*curve(_X, y - 2, 23, 18, 180, 360), (_X + 27, y + 8), (_X + 12, y + 17), (_X, y + 21),
            (_X - 12, y + 17), (_X - 27, y + 8)]  # fmt: skip
    canvas.polygon(face, FUR["tiko"])
    for side in (-1, 1):
        cheek = [(_X + side * 2, y + 6), (_X + side * 15, y + 4), (_X + side * 24.5, y + 8),
                 (_X + side * 11.5, y + 15.6), (_X + side * 0, y + 19.5)]  # fmt: skip
        canvas.polygon(cheek, _WHITE, line=0)
    _eyes(canvas, 10, y - 3, action)
    canvas.ellipse(_X, y + 7, 4, 3.2, INK, line=0)
    _mouth(canvas, y + 13, 4.5, action)


def _rabbit(canvas: Canvas, y: float, action: str) -> None:
    for side in (-1, 1):
        canvas.ellipse(_X + side * 9.5, y - 26, 7, 15, FUR["momo"])
        canvas.ellipse(_X + side * 9.5, y - 25, 3.2, 10.5, (240, 110, 150), line=0)
    canvas.ellipse(_X, y, 23, 20, FUR["momo"])
    _eyes(canvas, 10.5, y - 2, action)
    _cheeks(canvas, 17, y + 8)
    canvas.ellipse(_X, y + 6, 3, 2.2, (226, 70, 110), line=0)
    if action in ("stand", "wave"):
        canvas.rectangle(_X - 3, y + 11, _X + 3, y + 16, _WHITE, line=1.4)
    _mouth(canvas, y + 11, 5, action)


def _frog(canvas: Canvas, y: float, action: str) -> None:
    for side in (-1, 1):
        canvas.ellipse(_X + side * 13, y - 15, 10.5, 10.5, FUR["zara"])
    canvas.ellipse(_X, y + 2, 25, 19, FUR["zara"])
    for side in (-1, 1):
        canvas.ellipse(_X + side * 13, y - 13, 8, 7, FUR["zara"], line=0)
    _eyes(canvas, 13, y - 15, action)
    _cheeks(canvas, 19, y + 5)
    canvas.stroke(curve(_X, y + 4, 14, 7, 10, 170), 2.2)
    if action == "jump":
        canvas.polygon(curve(_X, y + 4, 14, 12, 0, 180), (190, 40, 60), line=1.8)


def _cat(canvas: Canvas, y: float, action: str) -> None:
    for side in (-1, 1):
        ear = [(_X + side * 22, y - 27), (_X + side * 23, y - 5), (_X + side * 5, y - 18)]
        canvas.polygon(ear, FUR["luna"])
        inner = [(_X + side * 19.5, y - 21), (_X + side * 20, y - 11), (_X + side * 11, y - 16)]
        canvas.polygon(inner, (255, 160, 180), line=0)
    canvas.ellipse(_X, y, 24, 20, FUR["luna"])
    for dx in (-5, 0, 5):
        canvas.stroke([(_X + dx, y - 17), (_X + dx, y - 12)], 2.4, (90, 94, 124))
    canvas.ellipse(_X, y + 10, 9, 6.5, (236, 238, 246), line=0)
    _eyes(canvas, 11, y - 2, action)
    canvas.ellipse(_X, y + 6, 2.8, 2.2, (240, 110, 140), line=0)
    for side in (-1, 1):
        for dy in (-1.5, 2.5):
            whisker = [(_X + side * 16, y + 8 + dy * 0.6), (_X + side * 28, y + 7 + dy * 1.8)]
            canvas.stroke(whisker, 1.6)
    _mouth(canvas, y + 12, 4.5, action)


def _dog(canvas: Canvas, y: float, action: str) -> None:
    brown = (120, 74, 44)
    canvas.ellipse(_X, y, 22, 21, FUR["milo"])
    canvas.ellipse(_X + 10, y - 4, 9.5, 10.5, brown, line=0)  # a patch around one eye
    for side in (-1, 1):  # long ears that hang
        ear = [(_X + side * 12, y - 19), (_X + side * 27, y - 12), (_X + side * 31, y + 12),
               (_X + side * 24, y + 19), (_X + side * 19, y + 4)]  # fmt: skip
        canvas.polygon(ear, brown)
    _eyes(canvas, 9.5, y - 4, action)
    canvas.ellipse(_X, y + 10, 12, 9, (250, 240, 220), line=1.4)
    canvas.ellipse(_X, y + 5, 5.5, 3.8, INK, line=0)
    _mouth(canvas, y + 13, 5, action)


def _penguin(canvas: Canvas, y: float, action: str) -> None:
    canvas.ellipse(_X, y, 23, 24, FUR["gus"])
    for side in (-1, 1):  # a white face in the shape of a heart
        canvas.ellipse(_X + side * 8, y - 1, 10, 12, _WHITE, line=0)
    canvas.ellipse(_X, y + 9, 15, 11, _WHITE, line=0)
    _eyes(canvas, 9, y - 3, action)
    _cheeks(canvas, 13, y + 9)
    tip = 14 if action == "jump" else 10
    canvas.polygon([(_X - 8, y + 4), (_X + 8, y + 4), (_X, y + tip)], (250, 120, 30), line=1.8)


def _owl(canvas: Canvas, y: float, action: str) -> None:
    for side in (-1, 1):  # tufts
        tuft = [(_X + side * 26, y - 28), (_X + side * 22, y - 4), (_X + side * 4, y - 16)]
        canvas.polygon(tuft, FUR["olga"])
    canvas.ellipse(_X, y, 25, 21, FUR["olga"])
    for side in (-1, 1):
        canvas.ellipse(_X + side * 11, y - 2, 12.5, 12.5, (252, 226, 150), line=1.6)
    _eyes(canvas, 11, y - 2, action)
    canvas.polygon([(_X - 5, y + 3), (_X + 5, y + 3), (_X, y + 14)], (240, 150, 40), line=1.8)


def _stranger_tail(canvas: Canvas, look: Stranger, lift: float, side: int) -> None:
    y, x = lift, [_X + side * d for d in range(40)]
    if look.tail == "thin":
        canvas.limb([(x[12], 106 + y), (x[26], 88 + y)], 6, look.second)
    elif look.tail == "long":
        canvas.limb([(x[12], 108 + y), (x[25], 106 + y), (x[27], 90 + y)], 7, look.fur)
    elif look.tail == "bushy":
        canvas.limb([(x[12], 106 + y), (x[24], 98 + y)], 14, look.fur)
        canvas.ellipse(x[25], 90 + y, 7, 10, look.fur)
        canvas.ellipse(x[26], 84 + y, 4.4, 5, look.second, line=0)
    elif look.tail == "ball":
        canvas.ellipse(x[19], 102 + y, 6, 6, look.second)


def _stranger_head(canvas: Canvas, look: Stranger, y: float, action: str) -> None:
    wide, high, size = 23 * look.wide, 21 * look.high, look.ear
    if look.ears != "hanging":
        _ears(canvas, look, y, wide, high, size)
    canvas.ellipse(_X, y, wide, high, look.fur)
    if look.face == "cap":
        canvas.polygon(curve(_X, y - 1, wide - 1, high - 1, 200, 340), look.second, line=0)
    elif look.face == "stripes":
        for dx in (-6, 0, 6):
            canvas.stroke([(_X + dx, y - high + 3), (_X + dx, y - high + 8)], 3, look.second)
    elif look.face == "patch":
        canvas.ellipse(_X + 10, y - 4, 9.5, 10.5, look.second, line=0)
    for side in (-1, 1):
        if look.face == "heart":
            canvas.ellipse(_X + side * 8, y - 1, 10, 12, look.pale, line=0)
        elif look.face == "discs":
            canvas.ellipse(_X + side * 11, y - 2, 12.5, 12.5, look.pale, line=1.6)
        elif look.face == "cheeks":
            canvas.ellipse(_X + side * 0.5 * wide, y + 8, 0.42 * wide, 7, look.pale, line=0)
    if look.face == "heart":
        canvas.ellipse(_X, y + 9, 15, 11, look.pale, line=0)
    if look.ears == "hanging":
        _ears(canvas, look, y, wide, high, size)
    _eyes(canvas, 10 * look.eyes, y - 3, action)
    if look.muzzle != "none":
        line = 1.4 if look.muzzle == "outlined" else 0
        canvas.ellipse(_X, y + 9.5, 12, 9, look.pale, line=line)
    if look.blush:
        _cheeks(canvas, 16, y + 8)
    if look.whiskers:
        for side, dy in ((-1, -1.5), (1, -1.5), (-1, 2.5), (1, 2.5)):
            whisker = [(_X + side * 16, y + 8 + dy * 0.6), (_X + side * 28, y + 7 + dy * 1.8)]
            canvas.stroke(whisker, 1.6)
    _nose(canvas, look, y, action)


def _ears(canvas: Canvas, look: Stranger, y: float, wide: float, high: float, size: float) -> None:
    top = y - high
    for side in (-1, 1):
        x = [_X + side * d for d in range(40)]
        if look.ears == "round":
            canvas.ellipse(_X + side * 0.72 * wide, y - 16, 9 * size, 9 * size, look.fur)
            canvas.ellipse(
                _X + side * 0.72 * wide, y - 16, 4.5 * size, 4.5 * size, look.second, line=0
            )
        elif look.ears == "pointed":
            canvas.polygon([(x[22], y - 20 - 8 * size), (x[23], y - 5), (x[5], y - 18)], look.fur)
            inner = [(x[20], y - 15 - 7 * size), (x[20], y - 11), (x[11], y - 16)]
            canvas.polygon(inner, look.second, line=0)
        elif look.ears == "upright":
            canvas.ellipse(_X + side * 9.5, y - 26, 7, 15 * size, look.fur)
            canvas.ellipse(_X + side * 9.5, y - 25, 3.2, 10.5 * size, look.second, line=0)
        elif look.ears == "hanging":
            ear = [(x[12], y - 19), (x[27], y - 12), (x[30], y + 12 * size),
                   (x[24], y + 19 * size), (x[19], y + 4)]  # fmt: skip
            canvas.polygon(ear, look.second)
        elif look.ears == "tufts":
            canvas.polygon([(x[26], y - 21 - 7 * size), (x[22], y - 4), (x[4], y - 16)], look.fur)
        elif look.ears == "horns":
            horn = [(x[6], top + 5), (x[17], top + 8), (x[16], top - 10 * size)]
            canvas.polygon(horn, look.second)
    if look.ears == "feathers":
        for width, colour in ((9, INK), (5, look.fur)):
            for tip, rise in ((-11, 7), (0, 11), (11, 7)):
                feather = [(_X, top + 4), (_X + tip * 0.4, top - 3), (_X + tip, top - rise * size)]
                canvas.stroke(feather, width, colour)


def _nose(canvas: Canvas, look: Stranger, y: float, action: str) -> None:
    jump = action == "jump"
    if look.nose == "beak":
        if jump:
            canvas.polygon([(_X - 6, y + 9), (_X + 6, y + 9), (_X, y + 16)], (190, 40, 60), 1.8)
        tip = 9 if jump else 12
        beak = [(_X - 8, y + 6), (_X, y + 1), (_X + 8, y + 6), (_X, y + tip)]
        canvas.polygon(beak, _ORANGE, line=1.8)
    elif look.nose == "bill":
        tip = 14 if jump else 10
        canvas.polygon([(_X - 8, y + 4), (_X + 8, y + 4), (_X, y + tip)], _ORANGE, line=1.8)
    elif look.nose == "point":
        canvas.polygon([(_X - 5, y + 3), (_X + 5, y + 3), (_X, y + 14)], (240, 190, 40), line=1.8)
    elif look.nose == "snout":
        canvas.ellipse(_X, y + 7, 8, 5.5, (250, 160, 170), line=1.6)
        for side in (-1, 1):
            canvas.ellipse(_X + side * 3, y + 7, 1.4, 2, INK, line=0)
        _mouth(canvas, y + 15, 5, action)
    else:
        large = look.nose == "large"
        canvas.ellipse(_X, y + 5.5, 5 if large else 3, 3.6 if large else 2.3,
                       INK if large else (226, 70, 110), line=0)  # fmt: skip
        _mouth(canvas, y + 12, 5, action)


_HEADS = {
    "pip": _chick, "bruno": _bear, "tiko": _fox, "momo": _rabbit, "zara": _frog, "luna": _cat,
    "milo": _dog, "gus": _penguin, "olga": _owl,
}  # fmt: skip
