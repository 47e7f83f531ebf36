"""Pictures to distil a teacher on, all drawn from a seed: no photograph is among them.

A teacher is asked about edges, textures and parts of things, so the pictures are made of those: a
world of leaves that hide one another (shapes of all sizes, each filled with a texture of its own),
lit, blurred and grained as a lens would. Drawing is slow and cutting is quick, so a pool of large
pictures is renewed a little at every step and each batch is cut from it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont
from scipy.spatial import cKDTree

Pixels = NDArray[np.uint8]
Random = np.random.Generator
BANK_SIZE = 224  # side of a texture
PICTURE_SIZE = 208  # side of a picture in the pool
GLYPHS = "ABCDEFGHKLMNPRSTXYZabdeghkmnqrst0123456789#%&@+*=?"


def texture(random: Random, size: int = BANK_SIZE) -> Image.Image:
    """One texture: a relief of a random family in random colours, sometimes two interwoven."""
    families = (_clouds, _clouds, _waves, _cells, _spots, _weave, _bricks, _strokes, _ripples)
    height = families[random.integers(len(families))](random, size)
    if random.random() < 0.4:
        other = families[random.integers(len(families))](random, size)
        mix = random.uniform(0.2, 0.8)
        height = mix * height + (1 - mix) * other
    return Image.fromarray(_colour(height, random))


class Pool:
    """Pictures that are renewed bit by bit, and the batches cut from them.

    Args:
        pictures: how many are kept.
        textures: how many the leaves are filled from; they are renewed too.
        seed: decides everything that is ever drawn.
    """

    def __init__(self, pictures: int, textures: int, seed: int | tuple[int, ...]) -> None:
        self.random = np.random.default_rng(seed)
        self.bank = [texture(self.random) for _ in range(textures)]
        self.pictures = np.stack([self._draw() for _ in range(pictures)])

    def renew(self, pictures: int) -> None:
        """Replace some pictures, and a texture of the bank, by new ones."""
        for row in self.random.integers(len(self.pictures), size=pictures):
            self.pictures[row] = self._draw()
        self.bank[self.random.integers(len(self.bank))] = texture(self.random)

    def batch(self, count: int, size: int) -> Pixels:
        """Cut (count, size, size, 3), each at a random place, scale and orientation."""
        cut = np.empty((count, size, size, 3), np.uint8)
        for n in range(count):
            picture = self.pictures[self.random.integers(len(self.pictures))]
            side = round(size * math.exp(self.random.uniform(math.log(0.5), math.log(1.8))))
            side = min(side, PICTURE_SIZE)
            y, x = self.random.integers(PICTURE_SIZE - side + 1, size=2)
            piece = picture[y : y + side, x : x + side]
            piece = np.rot90(piece, self.random.integers(4))
            if self.random.random() < 0.5:
                piece = piece[:, ::-1]
            if side != size:
                way = Image.Resampling.BOX if side > size else Image.Resampling.BICUBIC
                way = Image.Resampling.LANCZOS if self.random.random() < 0.5 else way
                resized = Image.fromarray(np.ascontiguousarray(piece)).resize((size, size), way)
                piece = np.asarray(resized)
            cut[n] = _develop(piece, self.random)
        return cut

    def _draw(self) -> Pixels:
        random = self.random
        picture = self._fill(PICTURE_SIZE, PICTURE_SIZE)
        if random.random() < 0.12:  # a texture alone, as a wall would fill the view
            return np.asarray(picture)
        smallest = random.uniform(3, 30)
        for _ in range(int(random.integers(3, 70))):
            # Sizes fall off as a power: nature's leaves look the same from near and far.
            radius = min(smallest / (1 - random.random()) ** 0.7, 90)
            side = int(2 * radius) + 4
            leaf = self._fill(side, side)
            mask = _shape(side, random)
            if random.random() < 0.3:
                leaf = _shaded(leaf, random)
            place = tuple(int(v) for v in random.integers(-side // 2, PICTURE_SIZE - side // 2, 2))
            if random.random() < 0.3:  # its shadow
                offset = tuple(p + int(random.integers(-4, 5)) for p in place)
                dark = mask.point([int(v * random.uniform(0.3, 0.8)) for v in range(256)])
                shadow = dark.filter(ImageFilter.BoxBlur(float(random.uniform(1, 4))))
                picture.paste((0, 0, 0), offset, shadow)
            picture.paste(leaf, place, mask)
        return np.asarray(picture)

    def _fill(self, height: int, width: int) -> Image.Image:
        """A piece of a texture at a random scale, or now and then a flat colour."""
        if self.random.random() < 0.15:
            return Image.new("RGB", (width, height), _any_colour(self.random))
        source = self.bank[self.random.integers(len(self.bank))]
        scale = math.exp(self.random.uniform(math.log(0.4), math.log(2.0)))
        side = float(np.clip(max(height, width) * scale, 24, BANK_SIZE))
        y, x = self.random.uniform(0, BANK_SIZE - side + 1e-6, size=2)
        frame = (x, y, min(x + side, BANK_SIZE), min(y + side, BANK_SIZE))
        return source.resize((width, height), Image.Resampling.BILINEAR, box=frame)


def _shape(side: int, random: Random) -> Image.Image:
    """The mask of one leaf: an ellipse, polygon, star, bar, ring, blob, curve or letter."""
    scale = 2 if side < 60 else 1  # antialiased by shrinking
    s = side * scale
    mask = Image.new("L", (s, s), 0)
    draw = ImageDraw.Draw(mask)
    kind = random.integers(8)
    c, r = s / 2, s / 2 - 2 * scale
    turn = random.uniform(0, 2 * math.pi)
    if kind == 0:
        squash = random.uniform(0.3, 1)
        draw.ellipse((c - r, c - r * squash, c + r, c + r * squash), fill=255)
        mask = mask.rotate(math.degrees(turn))
    elif kind in (1, 2, 3):
        if kind == 1:
            angles = np.sort(random.uniform(0, 2 * math.pi, int(random.integers(3, 9))))
            radii = random.uniform(0.5, 1, len(angles)) * r
        elif kind == 2:
            angles = np.linspace(0, 2 * math.pi, 49)[:-1]
            waves = sum(
                random.normal() / k * np.cos(k * angles + random.uniform(0, 6.3))
                for k in range(2, 7)
            )
            radii = r * np.clip(0.7 + 0.25 * waves, 0.1, 1)
        else:
            angles = np.linspace(0, 2 * math.pi, 2 * int(random.integers(3, 9)) + 1)[:-1]
            radii = np.where(np.arange(len(angles)) % 2, random.uniform(0.2, 0.95), 1) * r
        corners = np.stack([c + radii * np.cos(angles + turn), c + radii * np.sin(angles + turn)])
        draw.polygon([tuple(p) for p in corners.T], fill=255)
    elif kind == 4:
        width = r * random.uniform(0.05, 0.6)
        draw.rounded_rectangle((c - r, c - width, c + r, c + width), width * random.random(), 255)
        mask = mask.rotate(math.degrees(turn))
    elif kind == 5:
        width = max(1, int(r * random.uniform(0.05, 0.5)))
        start = float(random.uniform(0, 360))
        draw.arc((c - r, c - r, c + r, c + r), start, start + random.uniform(60, 360), 255, width)
    elif kind == 6:
        steps = np.cumsum(np.cumsum(random.normal(0, 1, (2, 12)), 1), 1)
        steps -= steps.min(1, keepdims=True)
        steps *= (s - 4) / max(steps.max(), 1e-6)
        draw.line([tuple(p) for p in steps.T + 2], 255, max(1, int(r * random.uniform(0.02, 0.3))))
    else:
        font = ImageFont.load_default(size=s * 0.8)
        draw.text((c, c), random.choice(list(GLYPHS)), fill=255, font=font, anchor="mm")
        mask = mask.rotate(math.degrees(turn) if random.random() < 0.5 else 0)
    mask = mask if scale == 1 else mask.resize((side, side), Image.Resampling.BOX)
    if random.random() < 0.2:  # out of focus, or a soft thing
        mask = mask.filter(ImageFilter.BoxBlur(float(random.uniform(0.5, 3))))
    return mask


def _shaded(leaf: Image.Image, random: Random) -> Image.Image:
    """Light that falls off across a leaf, as on something round."""
    side = leaf.width
    line = np.linspace(-1, 1, side, dtype=np.float32)
    angle = random.uniform(0, 2 * math.pi)
    slope = line[:, None] * math.sin(angle) + line * math.cos(angle)
    if random.random() < 0.5:
        slope = 1 - 1.2 * ((line[:, None] - 0.3) ** 2 + (line - 0.2) ** 2)
    light = np.clip(160 + random.uniform(20, 110) * slope, 0, 255).astype(np.uint8)
    return ImageChops.multiply(leaf, Image.merge("RGB", [Image.fromarray(light)] * 3))


def _develop(piece: Pixels, random: Random) -> Pixels:
    """What a camera does to colours, focus and grain; half the pictures are left as they are."""
    if random.random() < 0.4:
        return piece
    x = piece.astype(np.float32) / 255
    if random.random() < 0.35:
        x = np.repeat(x @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, 2)
    elif random.random() < 0.5:
        grey = x.mean(2, keepdims=True)
        x = grey + (x - grey) * np.float32(random.uniform(0.1, 1))
    x = np.clip(x, 0, 1) ** np.float32(math.exp(random.normal(0, 0.4)))
    x = np.float32(random.uniform(0.3, 1)) * (x - np.float32(0.5)) + np.float32(0.5)
    x += np.float32(random.normal(0, 0.12))
    if random.random() < 0.4:
        x += np.float32(random.uniform(0, 0.06)) * random.standard_normal(
            (*x.shape[:2], int(random.choice([1, 3]))), np.float32
        )
    out: Pixels = (np.clip(x, 0, 1) * 255).astype(np.uint8)
    if random.random() < 0.25:
        blur = ImageFilter.GaussianBlur(float(random.uniform(0.3, 1.8)))
        out = np.asarray(Image.fromarray(out).filter(blur))
    return out


def _any_colour(random: Random) -> tuple[int, int, int]:
    grey = random.uniform(0, 255)
    r, g, b = np.clip(grey + random.normal(0, random.choice([5, 40, 90]), 3), 0, 255).astype(int)
    return int(r), int(g), int(b)


def _colour(height: NDArray[Any], random: Random) -> Pixels:
    """A relief in [0, 1] to RGB: a path through a few colours, lit as a relief or not."""
    stops = np.array([_any_colour(random) for _ in range(random.integers(2, 6))], np.float32)
    h = np.clip(height, 0, 1).astype(np.float32)
    at = h * (len(stops) - 1)
    low = np.minimum(at.astype(int), len(stops) - 2)
    share = (at - low)[..., None]
    colour = stops[low] * (1 - share) + stops[low + 1] * share
    if random.random() < 0.4:
        gy, gx = np.gradient(h)
        angle = random.uniform(0, 2 * math.pi)
        light = 1 + random.uniform(2, 12) * (gy * math.sin(angle) + gx * math.cos(angle))
        colour *= np.clip(light, 0.2, 2.2)[..., None].astype(np.float32)
    if random.random() < 0.5:
        grain = random.standard_normal((*h.shape, 1), np.float32)
        colour += np.float32(random.uniform(0, 16)) * grain
    return np.clip(colour, 0, 255).astype(np.uint8)


def _unit(x: NDArray[Any]) -> NDArray[Any]:
    low, high = np.percentile(x[::4, ::4], (1, 99))
    scaled: NDArray[Any] = np.clip((x - low) / max(high - low, 1e-6), 0, 1)
    return scaled


def _clouds(random: Random, size: int, power: float | None = None) -> NDArray[Any]:
    """Noise whose amplitude falls as a power of frequency, stretched along a direction."""
    power = random.uniform(0.4, 2.2) if power is None else power
    fy = np.fft.fftfreq(size)[:, None] * size
    fx = np.fft.rfftfreq(size)[None] * size
    angle, stretch = random.uniform(0, math.pi), math.exp(random.uniform(0, 2.2))
    along = fx * math.cos(angle) + fy * math.sin(angle)
    across = (fy * math.cos(angle) - fx * math.sin(angle)) * stretch
    low = random.choice([1.0, 1.0, 8.0, 20.0])  # some have no large features at all
    amplitude = (along**2 + across**2 + low**2) ** (-power)
    spectrum = np.fft.rfft2(random.standard_normal((size, size))) * amplitude
    return _unit(np.fft.irfft2(spectrum, s=(size, size)))


def _plane(random: Random, size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Coordinates, turned, stretched and bent."""
    line = np.arange(size) / size
    y, x = np.meshgrid(line, line, indexing="ij")
    angle = random.uniform(0, 2 * math.pi)
    u = x * math.cos(angle) + y * math.sin(angle)
    v = (y * math.cos(angle) - x * math.sin(angle)) * random.uniform(0.5, 2)
    if random.random() < 0.6:
        bend = random.uniform(0, 0.12)
        u = u + bend * (_clouds(random, size, 1.6) - 0.5)
        v = v + bend * (_clouds(random, size, 1.6) - 0.5)
    return u, v


def _waves(random: Random, size: int) -> NDArray[Any]:
    """Bands of a random profile."""
    u, _ = _plane(random, size)
    phase = u * math.exp(random.uniform(math.log(3), math.log(60)))
    wave = np.sin(2 * math.pi * phase)
    return 1 / (1 + np.exp(-math.exp(random.uniform(0, 3)) * (wave + random.uniform(-0.7, 0.7))))


def _ripples(random: Random, size: int) -> NDArray[Any]:
    """Several waves at once, from plane or round sources."""
    total = np.zeros((size, size))
    y, x = np.mgrid[:size, :size] / size
    for _ in range(int(random.integers(2, 6))):
        frequency = math.exp(random.uniform(math.log(3), math.log(40)))
        if random.random() < 0.5:
            cy, cx = random.uniform(-0.5, 1.5, 2)
            distance = np.hypot(y - cy, x - cx)
        else:
            angle = random.uniform(0, 2 * math.pi)
            distance = x * math.cos(angle) + y * math.sin(angle)
        total += np.sin(2 * math.pi * frequency * distance + random.uniform(0, 6.3))
    return _unit(total)


def _cells(random: Random, size: int) -> NDArray[Any]:
    """Distances to scattered points: pebbles, foam, cracks, or flat many-coloured pieces."""
    count = int(math.exp(random.uniform(math.log(8), math.log(900))))
    points = random.uniform(-0.1, 1.1, (count, 2))
    u, v = _plane(random, size)
    near, which = cKDTree(points).query(np.stack([u, v], -1) % 1.0, k=2)
    kind = random.integers(4)
    if kind == 0:
        return _unit(near[..., 0])
    if kind == 1:
        width = random.uniform(1, 8)
        return np.clip((near[..., 1] - near[..., 0]) * math.sqrt(count) * width, 0, 1)
    flat = random.random(count)[which[..., 0]]
    if kind == 2:
        return flat
    return np.clip(flat * (0.5 + (near[..., 1] - near[..., 0]) * math.sqrt(count)), 0, 1)


def _spots(random: Random, size: int) -> NDArray[Any]:
    """Clouds cut at a level."""
    clouds = _clouds(random, size)
    return 1 / (1 + np.exp(-math.exp(random.uniform(1, 4)) * (clouds - random.uniform(0.3, 0.7))))


def _weave(random: Random, size: int) -> NDArray[Any]:
    """Threads over and under one another, or a lattice of dots."""
    u, v = _plane(random, size)
    count = math.exp(random.uniform(math.log(4), math.log(45)))
    a, b = u * count, v * count
    if random.random() < 0.5:
        over = (np.floor(a) + np.floor(b)) % 2
        profile = np.where(over > 0, np.sin(math.pi * (a % 1)), np.sin(math.pi * (b % 1)))
        return np.abs(profile) * (0.6 + 0.4 * over)
    shift = 0.5 * (np.floor(b) % 2) * random.integers(2)
    distance = np.hypot((a + shift) % 1 - 0.5, b % 1 - 0.5)
    sharp = random.uniform(2, 30)
    return 1 / (1 + np.exp(sharp * (distance - random.uniform(0.15, 0.45))))


def _bricks(random: Random, size: int) -> NDArray[Any]:
    """Bricks, tiles or a chequerboard, each piece of its own shade."""
    u, v = _plane(random, size)
    rows = math.exp(random.uniform(math.log(3), math.log(30)))
    columns = rows * random.uniform(0.3, 1)
    row = np.floor(v * rows)
    along = u * columns + 0.5 * (row % 2) * random.integers(2)
    column = np.floor(along)
    shade = np.sin(row * 127.1 + column * 311.7) * 43758.5
    shade = shade - np.floor(shade)
    if random.random() < 0.3:
        shade = (row + column) % 2
    gap = random.uniform(0, 0.15)
    edge = np.maximum(np.abs((v * rows) % 1 - 0.5), np.abs(along % 1 - 0.5))
    return np.where(edge > 0.5 - gap, random.random(), shade * random.uniform(0.2, 1))


def _strokes(random: Random, size: int) -> NDArray[Any]:
    """Many lines, curves or dots: fibres, scratches, straw, sprinkles."""
    canvas = Image.new("L", (size, size), int(random.integers(60, 196)))
    draw = ImageDraw.Draw(canvas)
    direction, spread = random.uniform(0, math.pi), random.choice([0.1, 0.6, 3.2])
    length, width = math.exp(random.uniform(0.5, 4.5)), int(random.integers(1, 6))
    for _ in range(int(math.exp(random.uniform(math.log(20), math.log(800))))):
        y, x = random.uniform(0, size, 2)
        angle = direction + random.normal(0, spread)
        half = length * random.uniform(0.2, 1) / 2
        dx, dy = half * math.cos(angle), half * math.sin(angle)
        draw.line((x - dx, y - dy, x + dx, y + dy), int(random.integers(256)), width)
    if random.random() < 0.5:
        canvas = canvas.filter(ImageFilter.BoxBlur(float(random.uniform(0.5, 2))))
    return np.asarray(canvas) / 255
