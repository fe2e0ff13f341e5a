"""Picture files to pixels, whatever the files hold: bounded memory, and a reason where it fails.

The files come from users' tables, so nothing in them is trusted: not their names, not their
sizes, not a byte of their content.
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
"""Raised when the same file gives other pixels: vectors of the old ones are then foreign."""

MARGIN = 256 / 224
"""The picture is scaled to this many times the crop: 256 for the usual 224 pixels."""

MAX_PIXELS = 50_000_000
MAX_BYTES = 64 * 2**20

BYTES_PER_PIXEL = 24
"""Most memory that decoding takes per pixel: lossless WebP with transparency, the worst case,
holds two canvases, a copy, the picture and its premultiplied copy, of 4 bytes each, and slack."""

BIG = 96 * 2**20
"""Bytes of decoding from which pictures wait for each other: one big one at a time."""

BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels: drawings and logos are made for white pages."""

# Each reader by its own magic bytes rather than `Image.open`: no other of Pillow's formats ever
# sees a user's bytes, and its limit on pixels, which is global and refuses 200-megapixel JPEG
# pictures that decode at an eighth of the size, is not asked.
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
    """A file is no picture to learn from; the message is the reason, short and without the name."""


class Folder:
    """A directory that holds all picture files, and that no name leads out of.

    Args:
        root: the directory.
        max_bytes: size of the largest file read.

    Raises:
        InputError: there is no such directory.
    """

    def __init__(self, root: str | os.PathLike[str], max_bytes: int = MAX_BYTES):
        if not os.path.isdir(root):
            raise InputError(
                f"--image_root={os.fspath(root)}: no such directory; "
                "give the one that image paths start from"
            )
        self.root, self.max_bytes = os.path.realpath(root), max_bytes

    def path(self, name: str) -> str:
        """Where a file lies, with every `..` and symbolic link resolved.

        Raises:
            InputError: outside the directory.
            Unusable: no file can have such a name.
        """
        try:
            path = os.path.realpath(os.path.join(self.root, name))
        except ValueError:  # a zero byte, or half of a surrogate pair
            raise Unusable("no such file") from None
        inside = path == self.root or path.startswith(os.path.join(self.root, ""))
        if os.path.isabs(name) or not inside:
            raise InputError(
                f"image {quoted(name)} lies outside --image_root={self.root}; "
                "give paths relative to it, of files within it"
            )
        return path

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            InputError: outside the directory.
            Unusable: missing, unreadable, no regular file, empty or too large.
        """
        path = self.path(name)
        try:
            # Looked at before it is opened, since opening a device can do things, and without
            # waiting, since opening a pipe waits for its other end.
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise Unusable("not a regular file")
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
            with os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise Unusable("not a regular file")
                # One more than allowed, never the file's word on its size: it may be growing.
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
    """Turns the bytes of JPEG, PNG, WebP and GIF files into pictures of one size.

    The first frame of an animation, turned as its EXIF orientation says, transparent pixels over
    white, as 8-bit RGB; scaled so that its shorter side is 256/224 of the crop, and cropped in the
    middle. One decoder serves many threads. Together they take at most `BYTES_PER_PIXEL`
    x `max_pixels`, plus `big_bytes` for each thread.

    Args:
        height, width: of the result, in pixels.
        max_pixels: of the largest picture decoded. A JPEG picture counts as it is decoded, that is
            scaled down by 2, 4 or 8 if it is that much larger than needed; but where its data hold
            it in several passes (progressive), all of it is in memory, and counts.
        big_bytes: of decoding, from which pictures wait for each other: one big one at a time.
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
            Unusable: not a picture, damaged, too large, or a single pixel.
        """
        try:
            return self._decode(data)
        except Unusable:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise Unusable(f"more than {self.max_pixels:,} pixels") from None
        except Exception:
            # Pillow raises OSError, SyntaxError, ValueError, struct.error, zlib.error and more:
            # which of them depends on the byte that is wrong.
            raise Unusable("damaged or cut short") from None

    def _decode(self, data: bytes) -> np.ndarray:
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            # Before Pillow opens it, which makes room for the whole picture.
            self._check(*_webp_size(data))
            picture: ImageFile.ImageFile = WebPImagePlugin.WebPImageFile(io.BytesIO(data))
        else:
            kinds = [kind for magic, kind in _READERS.items() if data.startswith(magic)]
            if not kinds:
                raise Unusable("not a JPEG, PNG, WebP or GIF picture")
            picture = kinds[0](io.BytesIO(data))
        size = picture.size
        if isinstance(picture, JpegImagePlugin.JpegImageFile):
            # Twice the needed size: what is left to scale down is then smoothed by Pillow.
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
        """Scales, crops and turns in one step, so that no full-size copy is made for each."""
        turn = _orientation(picture)
        width, height = self.width, self.height
        if turn >= 5:  # these swap the sides
            width, height = height, width
        scale = min(picture.width / width, picture.height / height) / MARGIN
        left, top = (picture.width - scale * width) / 2, (picture.height - scale * height) / 2
        picture = _plain(picture)
        picture = picture.resize(
            (width, height),
            Image.Resampling.BILINEAR,  # of all pixels under a new one, not of four
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
    """In a mode whose pixels can be averaged: L, LA, RGB, RGBA or CMYK."""
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
    except Exception:  # damaged notes about a picture that is whole
        return 1


def _held_whole(data: bytes, picture: JpegImagePlugin.JpegImageFile) -> bool:
    """Whether libjpeg keeps all of a picture in memory, however small it shall become.

    It does where the colours of a pixel do not all come in the first scan.
    """
    if "progression" in picture.info:
        return True
    # Pillow has just read the header of the first scan: marker, length, number of colours, ...
    end, colours = cast(io.BytesIO, picture.fp).tell(), picture.layers
    start = end - 8 - 2 * colours
    return data[start : start + 5] != bytes([0xFF, 0xDA, 0, 6 + 2 * colours, colours])


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height in the header of a WebP file (RFC 9649, sections 2.5 to 2.7)."""
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
