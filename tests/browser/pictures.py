"""Pictures as a reader's files, which browser tests hand to a page."""

from __future__ import annotations

import io

from PIL import Image


def as_file(image: Image.Image, name: str, **options: object) -> dict[str, object]:
    """A file for an input of a page; its format is what its name ends in."""
    file, kind = io.BytesIO(), name.rpartition(".")[2]
    image.save(file, kind, **options)
    return {"name": name, "mimeType": f"image/{kind}", "buffer": file.getvalue()}


def quarters(width: int, height: int) -> Image.Image:
    """A picture of four colours, which shows how it is turned."""
    image = Image.new("RGB", (width, height), (200, 40, 40))
    image.paste((40, 200, 40), (width // 2, 0, width, height // 2))
    image.paste((40, 40, 200), (0, height // 2, width // 2, height))
    return image


def turned() -> Image.Exif:
    """The note of a camera that its picture is to be turned by 90 degrees clockwise."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif
