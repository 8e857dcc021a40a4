"""Draws paintings for trainings of `any_style`: `python docs/draw_paintings.py PICTURES OUT COUNT SEED`.

Real paintings that anyone may use are few and much alike; a generator that has to follow any hand needs to see more
hands than these. Each drawing is one of PICTURES in bolder colours, as brush strokes (after Hertzmann 1998), cells,
flat areas with contours, hatching, dots or shapes, all of random sizes, directions and colours.
"""

import argparse
import math
import pathlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage, spatial

SIDE, LONGEST = 384, 576
BLACK = (0, 0, 0)


def main() -> None:
    """Draws COUNT paintings, the same for the same seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int)
    flags = parser.parse_args()
    files, rng = sorted(flags.pictures.glob("*.jpg")), np.random.default_rng(flags.seed)
    flags.out.mkdir(exist_ok=True, parents=True)
    for number in range(flags.count):
        pixels = _bolder(_read(files[rng.integers(len(files))]), rng)
        manner = MANNERS[rng.integers(len(MANNERS))]
        drawn = manner(pixels, rng)
        if manner is not strokes and rng.random() < 0.35:
            drawn = strokes(np.float64(drawn), rng)
        name = f"{manner.__name__}_{flags.seed}_{number:04d}.jpg"
        Image.fromarray(np.uint8(drawn)).save(flags.out / name, quality=92)


def strokes(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bent strokes along edges and a random field, coarse ones first; some with a ridge of paint."""
    height, width = pixels.shape[:2]
    angle = _directions(pixels, rng)
    canvas = Image.fromarray(np.uint8(_blurred(pixels, 6)))
    draw = ImageDraw.Draw(canvas)
    finest, jitter, stretch, bend = (rng.uniform(*between) for between in ((1.5, 6), (4, 40), (2, 9), (0, 1)))
    for thick in (4 * finest, 2 * finest, finest):
        look = _blurred(pixels, thick / 2)
        count = int(1.3 * height * width / (thick * thick * stretch))
        for y, x in zip(rng.integers(0, height, count), rng.integers(0, width, count), strict=True):
            color = look[y, x] + rng.normal(0, jitter) + rng.normal(0, jitter / 2, 3)
            points, px, py = [], float(x), float(y)
            for _ in range(5):
                points.append((px, py))
                turned = angle[int(py) % height, int(px) % width] * bend + (1 - bend) * angle[y, x]
                px += math.cos(turned) * thick * stretch / 4
                py += math.sin(turned) * thick * stretch / 4
            draw.line(points, fill=_color(color), width=max(1, round(thick)), joint="curve")
            if thick == finest and rng.random() < 0.3:
                draw.line(points, fill=_color(color + rng.choice([-1, 1]) * jitter * 1.5), width=1)
    return np.asarray(canvas)


def cells(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Voronoi cells, squeezed in some direction, at random or near a grid; some shaded, some outlined."""
    height, width = pixels.shape[:2]
    count = int(height * width / rng.uniform(8, 45) ** 2)
    theta, squeeze = rng.uniform(0, 3.14), rng.uniform(1, 3)
    sine, cosine = math.sin(theta), math.cos(theta)
    turn = np.array([[cosine, -sine], [sine * squeeze, cosine * squeeze]]).T
    points = rng.uniform(0, 1, (count, 2)) * [height, width]
    if rng.random() < 0.4:
        side = int(math.sqrt(count)) + 1
        grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
        points = (grid + rng.uniform(-0.3, 0.3, grid.shape)) * [height / side, width / side]
    places = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1)
    metric = 1 if rng.random() < 0.4 else 2
    distances, nearest = spatial.cKDTree(points @ turn).query(places.reshape(-1, 2) @ turn, k=2, p=metric)
    cell = nearest[:, 0].reshape(height, width)
    means = [ndimage.mean(pixels[..., channel], cell, np.arange(len(points))) for channel in range(3)]
    colors = np.nan_to_num(np.stack(means, -1))
    colors = colors + rng.normal(0, rng.uniform(0, 40), colors.shape)
    colors = colors + rng.normal(0, rng.uniform(0, 40), (len(colors), 1))
    drawn = colors[cell]
    if rng.random() < 0.6:
        lit = rng.uniform(0, 6.28, len(points))
        along = ((places - points[cell]) * np.stack([np.sin(lit), np.cos(lit)], -1)[cell]).sum(-1, keepdims=True)
        drawn = drawn + along * rng.uniform(1, 5)
    if rng.random() < 0.6:
        ink = rng.uniform(0, 50, 3) if rng.random() < 0.75 else rng.uniform(180, 255, 3)
        to_edge = (distances[:, 1] - distances[:, 0]).reshape(height, width, 1)
        drawn = np.where(to_edge < rng.uniform(1, 4), ink, drawn)
    return np.clip(drawn, 0, 255)


def areas(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A few flat colours with dark contours, on grainy paper."""
    blur = rng.uniform(1, 4)
    few = Image.fromarray(np.uint8(_blurred(pixels, blur))).quantize(int(rng.integers(4, 14)), kmeans=1)
    grey = ndimage.gaussian_filter(pixels.mean(-1), blur)
    edges = np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1))
    ink = np.clip(edges / np.quantile(edges, rng.uniform(0.85, 0.97)), 0, 1.5)[..., None] / 1.5
    drawn = np.asarray(few.convert("RGB")) * (1 - ink * rng.uniform(0, 1))
    grain = rng.uniform(0, 12) * _field(rng, grey.shape, rng.uniform(0.5, 2))
    return np.clip(drawn + grain[..., None], 0, 255)


def hatching(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Short thin lines where the picture is dark, on plain or tinted paper."""
    height, width = pixels.shape[:2]
    grey, angle = pixels.mean(-1), _directions(pixels, rng)
    paper, ink = rng.uniform(170, 255, 3), rng.uniform(0, 110, 3)
    plain = np.broadcast_to(paper, (height, width, 3))
    canvas = Image.fromarray(np.uint8(plain if rng.random() < 0.5 else np.clip((paper + pixels) / 2, 0, 255)))
    draw = ImageDraw.Draw(canvas)
    length, crossed, count = rng.uniform(4, 18), rng.random() < 0.5, int(height * width / rng.uniform(6, 30))
    straight = rng.uniform(0, 3.14) if rng.random() < 0.5 else None
    for y, x in zip(rng.integers(0, height, count), rng.integers(0, width, count), strict=True):
        if rng.uniform(20, 235) > grey[y, x]:
            turned = angle[y, x] if straight is None else straight
            turned += 1.57 if crossed and rng.random() < 0.4 else 0
            dx, dy = math.cos(turned) * length / 2, math.sin(turned) * length / 2
            draw.line([(x - dx, y - dy), (x + dx, y + dy)], fill=_color(ink), width=1)
    return np.asarray(canvas)


def dots(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Round dabs on a ground of one colour."""
    height, width = pixels.shape[:2]
    look = _blurred(pixels, 2)
    canvas = Image.fromarray(np.uint8(np.broadcast_to(rng.uniform(0, 255, 3), (height, width, 3))))
    draw = ImageDraw.Draw(canvas)
    radius, jitter = rng.uniform(1.2, 6), rng.uniform(5, 50)
    count = int(rng.uniform(0.7, 2) * height * width / (radius * radius * 2))
    for y, x in zip(rng.uniform(0, height, count), rng.uniform(0, width, count), strict=True):
        color = look[int(y), int(x)] + rng.normal(0, jitter, 3)
        half = radius * rng.uniform(0.6, 1.2)
        draw.ellipse([x - half, y - half, x + half, y + half], fill=_color(color))
    return np.asarray(canvas)


def shapes(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Triangles, discs, bars and arcs in a dozen colours of the picture."""
    height, width = pixels.shape[:2]
    canvas = Image.fromarray(np.uint8(_blurred(pixels, 20)))
    draw = ImageDraw.Draw(canvas)
    palette = pixels.reshape(-1, 3)[rng.integers(0, height * width, 12)] + rng.normal(0, 30, (12, 3))
    size = rng.uniform(10, 70)
    outline = BLACK if rng.random() < 0.5 else None
    for _ in range(int(6 * height * width / size**2)):
        x, y, side = rng.uniform(0, width), rng.uniform(0, height), size * rng.uniform(0.3, 1.4)
        color, kind = _color(palette[rng.integers(12)]), rng.integers(4)
        if kind == 0:
            corners = [(x + side * math.cos(t), y + side * math.sin(t)) for t in rng.uniform(0, 6.28, 3)]
            draw.polygon(corners, fill=color, outline=outline)
        elif kind == 1:
            half = side / 2
            draw.ellipse([x - half, y - half, x + half, y + half], fill=color, outline=outline, width=2)
        elif kind == 2:
            turned = rng.uniform(0, 6.28)
            end = (x + 2 * side * math.cos(turned), y + 2 * side * math.sin(turned))
            draw.line([(x, y), end], fill=color, width=int(rng.integers(1, 8)))
        else:
            first, last = sorted(rng.uniform(0, 360, 2))
            box = [x - side, y - side, x + side, y + side]
            draw.arc(box, first, last, fill=color, width=int(rng.integers(1, 8)))
    return np.asarray(canvas)


Manner = Callable[[np.ndarray, np.random.Generator], np.ndarray]
MANNERS: list[Manner] = [strokes] * 8 + [cells] * 4 + [areas, areas, dots, hatching, shapes, shapes]


def _read(path: pathlib.Path) -> np.ndarray:
    picture = Image.open(path).convert("RGB")
    scale = SIDE / min(picture.size)
    scaled = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.LANCZOS)
    return np.float64(np.asarray(scaled))[:LONGEST, :LONGEST]


def _bolder(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture with more contrast, and mostly more saturated."""
    mean = pixels.mean((0, 1))
    pixels = np.clip((pixels - mean) * rng.uniform(0.9, 1.8) + mean, 0, 255)
    grey = pixels.mean(-1, keepdims=True)
    return np.clip(grey + (pixels - grey) * rng.uniform(0.7, 2.5), 0, 255)


def _directions(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Angles along edges, more or less turned by a smooth random field."""
    grey = ndimage.gaussian_filter(pixels.mean(-1), rng.uniform(2, 6))
    swirl = _field(rng, grey.shape, rng.uniform(15, 60)) * rng.uniform(0.3, 3)
    strength = rng.uniform(0.0, 60)
    across, down = ndimage.sobel(grey, 1), ndimage.sobel(grey, 0)
    return np.arctan2(across + strength * np.sin(swirl), -down + strength * np.cos(swirl))


def _field(rng: np.random.Generator, shape: tuple[int, ...], smooth: float) -> np.ndarray:
    """A smooth random field of mean 0 and deviation 1."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), smooth, mode="wrap")
    return (field - field.mean()) / field.std()


def _blurred(pixels: np.ndarray, by: float) -> np.ndarray:
    return ndimage.gaussian_filter(pixels, (by, by, 0))


def _color(values: np.ndarray) -> tuple[int, ...]:
    return tuple(int(value) for value in np.clip(values, 0, 255))


if __name__ == "__main__":
    main()
