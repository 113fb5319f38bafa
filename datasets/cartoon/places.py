"""The five places, drawn as calm backgrounds: sky, ground and a few landmarks at the edges."""

from __future__ import annotations

from datasets.cartoon.canvas import SIZE, Canvas, curve

_WHITE = (255, 255, 255)
_PINK = (255, 120, 170)


def draw_place(place: str) -> Canvas:
    """The background of one of the five places."""
    canvas = Canvas()
    _PLACES[place](canvas)
    return canvas


def _bands(canvas: Canvas, *bands: tuple[float, tuple[int, int, int]]) -> None:
    """Horizontal bands from top to bottom: (top, colour)."""
    for top, colour in bands:
        canvas.rectangle(-2, top, SIZE + 2, SIZE + 2, colour)


def _cloud(canvas: Canvas, x: float, y: float) -> None:
    for dx, dy, r in ((-9, 2, 5), (9, 2, 5), (0, -1, 8)):
        canvas.ellipse(x + dx, y + dy, r + 3, r, _WHITE, line=0)


def _meadow(canvas: Canvas) -> None:
    _bands(canvas, (0, (150, 218, 255)))
    canvas.ellipse(10, 10, 17, 17, (255, 224, 70), line=0)
    _cloud(canvas, 100, 16)
    canvas.ellipse(20, 110, 70, 46, (120, 205, 110), line=0)
    canvas.ellipse(112, 112, 70, 42, (138, 216, 118), line=0)
    _bands(canvas, (92, (96, 188, 78)))
    flowers = ((9, 119, _PINK), (22, 101, _WHITE), (106, 101, _WHITE), (119, 119, _PINK))
    for x, y, petal in flowers:
        for angle_x, angle_y in ((-3.5, 0), (3.5, 0), (0, -3.5), (0, 3.5)):
            canvas.ellipse(x + angle_x, y + angle_y, 3, 3, petal, line=0)
        canvas.ellipse(x, y, 2.6, 2.6, (255, 205, 40), line=0)


def _beach(canvas: Canvas) -> None:
    _bands(canvas, (0, (255, 214, 176)))
    canvas.ellipse(15, 58, 20, 20, (255, 128, 84), line=0)
    _bands(canvas, (58, (22, 160, 190)), (92, (250, 224, 150)))
    canvas.ellipse(64, 93, 90, 4, _WHITE, line=0)
    canvas.ellipse(64, 97, 90, 5, (250, 224, 150), line=0)
    canvas.stroke(curve(132, 92, 14, 76, 180, 250), 6, (150, 92, 50))
    for start, radius in ((182, 15), (200, 22), (225, 22)):
        leaf = curve(124, 18 + radius, radius * 1.3, radius, start, 270)
        canvas.stroke(leaf, 7, (36, 150, 84))
    canvas.stroke(curve(134, 24, 14, 16, 200, 270), 7, (36, 150, 84))
    canvas.ellipse(121, 23, 4, 4, (112, 66, 40), line=0)


def _mountain(canvas: Canvas) -> None:
    _bands(canvas, (0, (172, 190, 232)))
    for x, y, half in ((26, 22, 56), (104, 10, 62)):
        canvas.polygon([(x, y), (x - half, 104), (x + half, 104)], (118, 134, 178), line=0)
        cap = [(x, y), (x - half * 0.34, y + 28), (x - 8, y + 22), (x, y + 30), (x + 9, y + 22)]
        canvas.polygon([*cap, (x + half * 0.34, y + 28)], _WHITE, line=0)
    _bands(canvas, (90, (238, 245, 255)))
    for x in (4, 124):
        for top in (44, 58, 72):
            canvas.polygon([(x, top), (x - 14, top + 22), (x + 14, top + 22)], (36, 104, 92), 0)


def _city(canvas: Canvas) -> None:
    _bands(canvas, (0, (30, 34, 92)))
    canvas.ellipse(64, 16, 12, 12, (255, 240, 170), line=0)
    canvas.ellipse(70, 13, 10, 10, (30, 34, 92), line=0)
    for x, y in ((30, 12), (40, 34), (88, 32), (98, 12)):
        canvas.ellipse(x, y, 1.8, 1.8, _WHITE, line=0)
    for left, top, tone in ((-2, 20, 0), (22, 50, 14), (46, 66, 4), (82, 44, 14), (106, 14, 0)):
        canvas.rectangle(left, top, left + 40, 100, (62 + tone, 58 + tone, 128 + tone))
    for x, y in ((4, 28), (12, 28), (4, 42), (12, 42), (111, 22), (119, 22), (111, 36), (119, 36)):
        canvas.rectangle(x, y, x + 5, y + 7, (255, 214, 90))
    _bands(canvas, (94, (112, 108, 150)), (122, (74, 72, 112)))


def _house(canvas: Canvas) -> None:
    _bands(canvas, (0, (232, 142, 134)), (92, (120, 66, 52)), (95, (196, 132, 84)))
    canvas.rectangle(50, 8, 78, 34, (160, 222, 255), line=3)
    canvas.stroke([(64, 8), (64, 34)], 2.4)
    canvas.stroke([(50, 21), (78, 21)], 2.4)
    canvas.ellipse(64, 116, 58, 10, (64, 150, 150), line=0)
    canvas.stroke([(6, 30), (6, 92)], 3)
    canvas.polygon([(-2, 12), (14, 12), (20, 32), (-8, 32)], (255, 232, 150))
    canvas.rectangle(110, 14, 134, 92, (150, 90, 60), line=2)
    for top, colour in ((20, (80, 170, 120)), (44, (250, 200, 80)), (68, (80, 130, 220))):
        canvas.rectangle(114, top, 134, top + 18, colour)


_PLACES = {"meadow": _meadow, "beach": _beach, "mountain": _mountain, "city": _city,
           "house": _house}  # fmt: skip
