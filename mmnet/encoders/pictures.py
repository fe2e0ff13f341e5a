"""Decoding of image files to pixels, with bounded memory and a reason for every failure.

The files come from users' tables, so nothing about them is trusted: neither their names nor their
sizes nor any byte of their content.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import threading
from typing import cast

import numpy as np
from PIL import GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from mmnet.checks import InputError, quoted

VERSION = 1
"""Version of decoding, increased when the same file gives other pixels, to invalidate vectors."""

MARGIN = 256 / 224
"""The image is scaled to this many times the crop: 256 for the usual 224 pixels."""

MAX_PIXELS = 50_000_000
MAX_BYTES = 64 * 2**20

BYTES_PER_PIXEL = 24
"""Maximum memory of decoding per pixel. The worst case, lossless WebP with transparency, has two
canvases, a copy, the image and its premultiplied copy, of 4 bytes each, and slack."""

BIG = 96 * 2**20
"""Bytes of decoding from which images wait for each other: one large image at a time."""

BACKGROUND = (255, 255, 255)
"""Background of transparent pixels: drawings and logos are made for white pages."""

# Each reader is chosen by its magic bytes, rather than by `Image.open`, so that no other format of
# Pillow ever sees a user's bytes. This also avoids Pillow's global limit on pixels, which refuses
# 200-megapixel JPEG images that are decoded at an eighth of the size.
_READERS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"GIF87a": GifImagePlugin.GifImageFile,
    b"GIF89a": GifImagePlugin.GifImageFile,
}

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unusable(Exception):
    """A file is not a usable image; the message is a short reason without the name."""


class Folder:
    """A directory that contains all image files; no name may lead out of it.

    Args:
        root: the directory.
        max_bytes: maximum size of a file.

    Raises:
        InputError: the directory does not exist.
    """

    def __init__(self, root: str | os.PathLike[str], max_bytes: int = MAX_BYTES):
        if not os.path.isdir(root):
            raise InputError(
                f"--image_root={os.fspath(root)}: no such directory; "
                "use the one that image paths are relative to"
            )
        self.root, self.max_bytes = os.path.realpath(root), max_bytes

    def path(self, name: str) -> str:
        """Returns the path of a file, with every `..` and symbolic link resolved.

        Raises:
            InputError: it is outside the directory.
            Unusable: no file can have such a name.
        """
        try:
            path = os.path.realpath(os.path.join(self.root, name))
        except ValueError:  # a zero byte, or half of a surrogate pair
            raise Unusable("no such file") from None
        inside = path == self.root or path.startswith(os.path.join(self.root, ""))
        if os.path.isabs(name) or not inside:
            raise InputError(
                f"image {quoted(name)} is outside --image_root={self.root}; "
                "use paths relative to it, of files inside it"
            )
        return path

    def read(self, name: str) -> bytes:
        """Reads a file.

        Raises:
            InputError: it is outside the directory.
            Unusable: it is missing, unreadable, empty, too large or not a regular file.
        """
        path = self.path(name)
        try:
            # Checked before it is opened, since opening a device can have effects; and opened
            # without blocking, since opening a pipe waits for its other end.
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise Unusable("not a regular file")
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
            with os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise Unusable("not a regular file")
                # One byte more than allowed, rather than the reported size: the file may grow.
                data = b"" if status.st_size > self.max_bytes else file.read(self.max_bytes + 1)
        except (FileNotFoundError, NotADirectoryError):
            raise Unusable("no such file") from None
        except OSError as error:
            raise Unusable(f"not readable ({error.strerror})") from None
        if status.st_size > self.max_bytes or len(data) > self.max_bytes:
            raise Unusable(f"larger than {self.max_bytes:,} bytes")
        if not data:
            raise Unusable("empty file")
        return data


class Decoder:
    """Turns the bytes of JPEG, PNG, WebP and GIF files into images of one size.

    The result is the first frame of an animation, rotated by its EXIF orientation, transparent
    pixels over white, as 8-bit RGB; scaled so that its shorter side is 256/224 of the crop, and
    cropped in the middle. One decoder serves many threads. Together they use at most
    `BYTES_PER_PIXEL` x `max_pixels`, plus `big_bytes` for each thread.

    Args:
        height, width: size of the result, in pixels.
        max_pixels: maximum size of an image. A JPEG image counts with its decoded size, that is
            scaled down by 2, 4 or 8 if it is that much larger than needed; but if its data are
            in several passes (progressive), all of it is in memory, and counts.
        big_bytes: memory of decoding from which images wait for each other.
    """

    def __init__(self, height: int, width: int, max_pixels: int = MAX_PIXELS, big_bytes: int = BIG):
        self.height, self.width, self.max_pixels = height, width, max_pixels
        self.big_bytes = big_bytes
        self._big = threading.Lock()

    def __call__(self, data: bytes) -> np.ndarray:
        """Decodes one file.

        Returns:
            uint8 [height, width, 3].

        Raises:
            Unusable: it is not an image, damaged, too large, or a single pixel.
        """
        try:
            return self._decode(data)
        except Unusable:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise Unusable(f"more than {self.max_pixels:,} pixels") from None
        except Exception:
            # Pillow raises OSError, SyntaxError, ValueError, struct.error, zlib.error and others,
            # depending on the byte that is wrong.
            raise Unusable("damaged or cut short") from None

    def _decode(self, data: bytes) -> np.ndarray:
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            # Checked before Pillow opens it, which allocates memory for the whole image.
            self._check(*_webp_size(data))
            picture: ImageFile.ImageFile = WebPImagePlugin.WebPImageFile(io.BytesIO(data))
        else:
            kinds = [kind for magic, kind in _READERS.items() if data.startswith(magic)]
            if not kinds:
                raise Unusable("not a JPEG, PNG, WebP or GIF picture")
            picture = kinds[0](io.BytesIO(data))
        size = picture.size
        if isinstance(picture, JpegImagePlugin.JpegImageFile):
            # Twice the needed size, so that Pillow smooths the remaining reduction.
            needed = round(2 * MARGIN * max(self.height, self.width))
            whole = _held_whole(data, picture)
            picture.draft(None, (needed, needed))
            size = size if whole else picture.size
        pixels = self._check(*size)
        if picture.size == (1, 1):
            raise Unusable("a single pixel")
        wait = self._big if BYTES_PER_PIXEL * pixels > self.big_bytes else contextlib.nullcontext()
        with wait:
            picture.load()
            return self._fit(picture)

    def _check(self, width: int, height: int) -> int:
        if width * height > self.max_pixels:
            raise Unusable(f"more than {self.max_pixels:,} pixels")
        return width * height

    def _fit(self, picture: Image.Image) -> np.ndarray:
        """Scales, crops and rotates in one step, to avoid full-size copies."""
        turn = _orientation(picture)
        width, height = self.width, self.height
        if turn >= 5:  # these swap the sides
            width, height = height, width
        scale = min(picture.width / width, picture.height / height) / MARGIN
        left, top = (picture.width - scale * width) / 2, (picture.height - scale * height) / 2
        picture = _plain(picture)
        picture = picture.resize(
            (width, height),
            Image.Resampling.BILINEAR,  # averages all pixels under a new one, not only four
            box=(left, top, left + scale * width, top + scale * height),
        )
        if picture.mode in ("LA", "RGBA"):
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, BACKGROUND), picture)
        picture = picture.convert("RGB")
        if turn in _TURNS:
            picture = picture.transpose(_TURNS[turn])
        return np.asarray(picture)


def _plain(picture: Image.Image) -> Image.Image:
    """Converts to a mode whose pixels can be averaged: L, LA, RGB, RGBA or CMYK."""
    if picture.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N"):
        # Pillow's own conversion of 16 bits to 8 clips in some versions, and shifts in others.
        return Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
    if "transparency" in picture.info or picture.mode in ("PA", "La", "RGBa"):
        return picture.convert("RGBA")
    if picture.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        return picture.convert("RGB")
    return picture


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata of an intact image
        return 1


def _held_whole(data: bytes, picture: JpegImagePlugin.JpegImageFile) -> bool:
    """Checks whether libjpeg keeps all of an image in memory, even to decode it smaller.

    It does if the colours of a pixel are not all in the first scan.
    """
    if "progression" in picture.info:
        return True
    # Pillow has just read the header of the first scan: marker, length, number of colours, ...
    end, colours = cast(io.BytesIO, picture.fp).tell(), picture.layers
    start = end - 8 - 2 * colours
    return data[start : start + 5] != bytes([0xFF, 0xDA, 0, 6 + 2 * colours, colours])


def _webp_size(data: bytes) -> tuple[int, int]:
    """Returns width and height in the header of a WebP file (RFC 9649, sections 2.5 to 2.7)."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise Unusable("damaged or cut short")
    if kind == b"VP8X":
        return (
            int.from_bytes(body[4:7], "little") + 1,
            int.from_bytes(body[7:10], "little") + 1,
        )
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return (
        int.from_bytes(body[6:8], "little") & 0x3FFF,
        int.from_bytes(body[8:10], "little") & 0x3FFF,
    )
