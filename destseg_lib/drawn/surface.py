"""A picture made of layers: the materials of things, their relief and their places.

Brightness is kept per material instead of per colour, and a small thing is laid in its own window
of the picture. Both make a category of many parts quick to draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from destseg_lib.drawn.drawing import (
    Colour,
    Field,
    Lamp,
    Point,
    cover,
    lit,
    near_rim,
    places,
    smooth_noise,
    turned,
)


@dataclass(frozen=True)
class Frame:
    """A thing's own coordinates.

    Attributes:
        degrees: how far it is turned clockwise in the image.
        origin: where its origin is in the image.
        unit: the unit of its lengths, as a share of the image's side.
    """

    degrees: float
    origin: Point
    unit: float

    def local(self, y: Field, x: Field) -> tuple[Field, Field]:
        """The places y, x of the image in this frame: down, across."""
        down, across = turned(y, x, self.degrees, self.origin)
        down *= 1 / self.unit
        across *= 1 / self.unit
        return down, across

    def seen(self, place: Point) -> Point:
        """Where in the image a place in this frame is."""
        c, s = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        down, across = self.unit * place[0], self.unit * place[1]
        return self.origin[0] + c * down + s * across, self.origin[1] + c * across - s * down

    def moved(self, by: Point, degrees: float = 0.0) -> Frame:
        """The frame moved to a place in itself, and turned."""
        return Frame(self.degrees + degrees, self.seen(by), self.unit)

    def thrown(self, height: float) -> Frame:
        """The frame of the shadow of a thing ``height`` above the ground, in ``unit``."""
        reach = height * self.unit
        y, x = self.origin
        return Frame(self.degrees, (y + 0.65 * reach, x + 0.55 * reach), self.unit)


@dataclass(frozen=True)
class Surface:
    """A picture, or a window of one, before it is lit. Lengths are in ``unit``.

    Attributes:
        y, x: (H, W), the places of its pixels in the image.
        layers: (materials, H, W), how bright each material is there.
        relief: (H, W), height.
        grit: (H, W), fine noise of unit variance: the grain of each material.
        size: S, the side of the whole picture in pixels.
        unit: the unit of lengths, as a share of the image's side.
    """

    y: Field
    x: Field
    layers: Field
    relief: Field
    grit: Field
    size: int
    unit: float

    def near(self, frame: Frame, corners: Iterable[Point], margin: float = 0.5) -> Surface:
        """The window that holds these places of ``frame``; it shares this surface's arrays."""
        (ys, xs), out = zip(*map(frame.seen, corners), strict=True), margin * self.unit
        rows, columns = (
            slice(
                min(max(math.floor((min(axis) + 0.5 - out) * self.size), 0), self.size - 1),
                max(min(math.ceil((max(axis) + 0.5 + out) * self.size), self.size), 1),
            )
            for axis in (ys, xs)
        )
        y, x, relief, grit = (a[rows, columns] for a in (self.y, self.x, self.relief, self.grit))
        return Surface(y, x, self.layers[:, rows, columns], relief, grit, self.size, self.unit)

    def cover(self, distance: Field, softness: float = 0.0) -> Field:
        """Coverage in [0, 1] of a signed distance in ``unit`` (``drawing.cover``)."""
        return cover(distance, softness, 1 / (self.size * self.unit))

    def lay(
        self,
        covered: Field,
        material: int,
        brightness: Field | float,
        relief: Field | float | None = None,
    ) -> None:
        """Cover the surface with a material; without ``relief`` the height stays."""
        self.layers[...] *= 1 - covered
        self.layers[material] += covered * brightness
        if relief is not None:
            self.relief[...] += covered * (relief - self.relief)

    def shade(self, share: Field) -> None:
        """Take away a share of the light."""
        self.layers[...] *= 1 - share

    def lit(self, lamp: Lamp, colours: Sequence[Colour], gloss: float) -> Field:
        """The whole picture (S, S, 3) under one lamp, with a colour for each material."""
        brightness = lit(self.relief * self.unit, lamp)
        mirrored = np.clip(brightness - 1.12, 0, 0.5) * gloss
        np.minimum(brightness, 2, out=brightness)
        flat = (self.layers * brightness).reshape(len(colours), -1)
        picture: Field = (flat.T @ np.array(colours, np.float32)).reshape(self.size, self.size, 3)
        picture += mirrored[..., None]
        return np.clip(picture, 0, 1, picture)


def blank(size: int, unit: float, materials: int, scene: np.random.Generator) -> Surface:
    """A flat, black surface with its grit."""
    y, x = places(size)
    layers = np.zeros((materials, size, size), np.float32)
    return Surface(y, x, layers, np.zeros_like(y), smooth_noise(scene, size, 120), size, unit)


def bevel(distance: Field, width: float) -> Field:
    """A rounded edge: 0 at a shape's rim, rising to 1 ``width`` inside it."""
    left = near_rim(distance, width)
    return 1 - left * left
