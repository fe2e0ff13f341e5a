import contextlib
import io
import os
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from mmnet.checks import InputError
from mmnet.encoders import pictures
from mmnet.encoders.pictures import Decoder, Folder, Unusable

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
NAMES = {RED: "red", GREEN: "green", BLUE: "blue", WHITE: "white", (0, 0, 0): "black"}
FORMATS = ["JPEG", "PNG", "WEBP", "GIF"]
JPEG = 12  # what lossy formats change a channel by, out of 255, inside a patch of one colour

decode = Decoder(32, 32)


def plain(colour, size=(64, 64), mode="RGB"):
    return Image.new(mode, size, colour)


def patches(side=64):
    """Red and green above blue and white."""
    picture = Image.new("RGB", (side, side))
    half = side // 2
    for i, colour in enumerate((RED, GREEN, BLUE, WHITE)):
        picture.paste(colour, (i % 2 * half, i // 2 * half, (i % 2 + 1) * half, side))
    picture.paste(GREEN, (half, 0, side, half))
    picture.paste(RED, (0, 0, half, half))
    return picture


def written(picture, kind="PNG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def corners(pixels):
    """Names of the colours in the corners: first row, last row."""
    found = []
    for row, column in ((4, 4), (4, -5), (-5, 4), (-5, -5)):
        seen = pixels[row, column].astype(int)
        near = min(NAMES, key=lambda colour: np.abs(seen - colour).sum())
        np.testing.assert_allclose(seen, near, atol=JPEG)
        found.append(NAMES[near])
    return found


def reason(data, decode=decode):
    with pytest.raises(Unusable) as caught:
        decode(data)
    return str(caught.value)


# ---------------------------------------------------------------- pixels


@pytest.mark.parametrize("kind", FORMATS)
def test_reads_every_format(kind):
    pixels = decode(written(patches(), kind))
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert corners(pixels) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize(
    ("orientation", "seen"),
    [  # EXIF: which side of the picture as seen the first stored row is, and the first column
        (1, ["red", "green", "blue", "white"]),  # top, left
        (2, ["green", "red", "white", "blue"]),  # top, right
        (3, ["white", "blue", "green", "red"]),  # bottom, right
        (4, ["blue", "white", "red", "green"]),  # bottom, left
        (5, ["red", "blue", "green", "white"]),  # left, top
        (6, ["blue", "red", "white", "green"]),  # right, top
        (7, ["white", "green", "blue", "red"]),  # right, bottom
        (8, ["green", "white", "red", "blue"]),  # left, bottom
        (9, ["red", "green", "blue", "white"]),  # no such orientation
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_turns_a_picture_as_its_exif_orientation_says(orientation, seen, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert corners(decode(written(patches(), kind, exif=exif))) == seen


def test_a_turned_picture_of_unequal_sides_fills_the_frame():
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn: what is stored as 30 rows of 90 is seen as 90 of 30
    stored = plain(RED, (90, 30))
    stored.paste(BLUE, (45, 0, 90, 30))
    pixels = Decoder(60, 20)(written(stored, exif=exif))
    assert pixels.shape == (60, 20, 3)
    assert (pixels[:25] == RED).all()
    assert (pixels[-25:] == BLUE).all()


def test_damaged_exif_is_no_orientation():
    data = written(patches(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert corners(decode(data)) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize(
    ("picture", "colour"),
    [
        (plain(200, mode="L"), (200, 200, 200)),
        (plain(1, mode="1"), WHITE),
        (plain(RED).quantize(2), RED),
        (plain((255, 0, 0, 255), mode="RGBA"), RED),
        (plain((255, 0, 0, 0), mode="RGBA"), WHITE),  # what is transparent lies over white
        (plain((0, 0, 0, 51), mode="RGBA"), (204, 204, 204)),  # a fifth of black over white
        (plain((0, 0), mode="LA"), WHITE),
        (Image.fromarray(np.full((64, 64), 0x80FF, np.uint16)), (0x80, 0x80, 0x80)),
    ],
    ids=["grey", "bit", "palette", "opaque", "clear", "veil", "clear grey", "16 bit"],
)
def test_makes_every_kind_of_pixel_rgb(picture, colour):
    np.testing.assert_allclose(decode(written(picture)), np.full((32, 32, 3), colour), atol=1)


@pytest.mark.parametrize(
    ("picture", "options"),
    [
        (plain(RED), {"kind": "PNG", "transparency": RED}),
        (plain(7, mode="L"), {"kind": "PNG", "transparency": 7}),
        (plain(RED).quantize(2), {"kind": "PNG", "transparency": 0}),
        (plain(RED).quantize(2), {"kind": "GIF", "transparency": 0}),
        (plain((255, 0, 0, 0), mode="RGBA"), {"kind": "WEBP"}),
    ],
    ids=["key colour", "key grey", "palette", "gif", "webp"],
)
def test_what_is_transparent_lies_over_white(picture, options):
    np.testing.assert_allclose(decode(written(picture, **options)), 255, atol=1)


def test_hidden_colour_does_not_bleed_into_what_is_seen():
    picture = plain((0, 255, 0, 0), (640, 640), "RGBA")  # green, and wholly transparent
    picture.paste((255, 255, 255, 255), (320, 0, 640, 640))
    np.testing.assert_array_equal(decode(written(picture)), 255)


def test_reads_cmyk_jpeg():
    inks = plain((0, 255, 255, 0), mode="CMYK")  # magenta and yellow make red
    np.testing.assert_allclose(
        decode(written(inks, "JPEG")), np.broadcast_to(RED, (32, 32, 3)), atol=JPEG
    )


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "MPO"])
def test_an_animation_is_its_first_frame(kind):
    more = [plain(BLUE), plain(GREEN)]
    data = written(plain(RED), kind, save_all=True, append_images=more)
    np.testing.assert_allclose(decode(data), np.broadcast_to(RED, (32, 32, 3)), atol=JPEG)


def test_crops_the_middle_of_the_scaled_picture():
    # 512 x 256: the shorter side is 256 already, and the 224 in the middle start at column 144.
    wide = plain(BLUE, (512, 256))
    wide.paste(RED, (0, 0, 146, 256))
    pixels = Decoder(224, 224)(written(wide))
    assert (pixels[:, :2] == RED).all()
    assert (pixels[:, 2:] == BLUE).all()


def test_the_margin_follows_the_size_of_the_input():
    # 28 is an eighth of 224: the picture is scaled to 32, so that 2 of 32 columns are cut off.
    picture = plain(BLUE, (32, 32))
    picture.paste(RED, (0, 0, 3, 32))
    pixels = Decoder(28, 28)(written(picture))
    assert (pixels[:, 0] == RED).all()
    assert (pixels[:, 1:] == BLUE).all()


def test_scales_down_by_averaging_all_pixels():
    fine = np.zeros((512, 512), np.uint8)
    fine[::2] = 200
    np.testing.assert_allclose(decode(written(Image.fromarray(fine))), 100, atol=2)


@pytest.mark.parametrize("size", [(1, 2), (2, 2), (3, 500), (500, 3), (1, 4000), (33, 31)])
def test_any_size_but_one_pixel_fills_the_frame(size):
    np.testing.assert_array_equal(
        decode(written(plain(RED, size))), np.broadcast_to(RED, (32, 32, 3))
    )


def test_a_large_jpeg_looks_the_same_as_its_pixels():
    draw = np.random.default_rng(0)
    smooth = Image.fromarray(draw.integers(0, 256, (12, 12, 3), np.uint8)).resize((1200, 1200), 3)
    small, whole = (decode(written(smooth, kind)).astype(int) for kind in ("JPEG", "PNG"))
    # Decoded at a sixteenth of the pixels, in blocks, and by another scaling: a few of 255.
    assert np.abs(small - whole).mean() < 2


# ---------------------------------------------------------------- files that are no pictures


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_a_picture_cut_short_is_damaged(kind, part):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = written(noise, kind)
    assert reason(data[: int(part * len(data))]) == "damaged or cut short"


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"not a picture", b"BM" + b"\0" * 60, b"\xff"])
def test_other_bytes_are_no_picture(data):
    assert reason(data) == "not a JPEG, PNG, WebP or GIF picture"


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM", "ICO", "PCX", "TGA"])
def test_other_formats_are_not_even_tried(kind):
    assert reason(written(plain(RED), kind)) == "not a JPEG, PNG, WebP or GIF picture"


@pytest.mark.parametrize("kind", FORMATS)
def test_a_single_pixel_says_nothing(kind):
    assert reason(written(plain(RED, (1, 1)), kind)) == "a single pixel"


VALID = [written(patches(16), kind) for kind in FORMATS]
VALID += [
    written(patches(16), "JPEG", progressive=True),
    written(patches(16).quantize(4), "GIF", save_all=True, append_images=[plain(RED, (16, 16))]),
    written(patches(16), "WEBP", lossless=True, exif=Image.Exif()),
]


@given(st.sampled_from([b"", *(data[:24] for data in VALID)]), st.binary(max_size=200))
def test_bytes_of_any_kind_never_crash(start, rest):
    try:
        pixels = decode(start + rest)
    except Unusable:
        return
    assert pixels.shape == (32, 32, 3)


@given(
    st.sampled_from(VALID),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_a_few_wrong_bytes_never_crash(data, changes):
    wrong = bytearray(data)
    for place, value in changes:
        wrong[place % len(wrong)] = value
    try:
        pixels = Decoder(32, 32, max_pixels=100_000)(bytes(wrong))
    except Unusable:
        return
    assert pixels.shape == (32, 32, 3)


# ---------------------------------------------------------------- bounds


def chunk(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png(width, height, body=b""):
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def test_pixels_are_counted_in_the_header():
    decode = Decoder(32, 32, max_pixels=4096)
    assert decode(written(plain(RED, (64, 64)))).shape == (32, 32, 3)
    for kind in ("PNG", "GIF", "WEBP"):
        assert reason(written(plain(RED, (64, 65)), kind), decode) == "more than 4,096 pixels"
    # No data follow this header: nothing but the header was read.
    assert reason(png(64, 65), decode) == "more than 4,096 pixels"


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 50}, {"exif": b"Exif\0\0MM"}])
def test_webp_is_counted_before_pillow_opens_it(options, monkeypatch):
    data = written(plain(RED, (70, 64)), "WEBP", **options)
    monkeypatch.setattr(pictures.WebPImagePlugin, "WebPImageFile", None)
    assert reason(data, Decoder(32, 32, max_pixels=70 * 64 - 1)) == "more than 4,479 pixels"


def test_a_jpeg_counts_as_it_is_decoded():
    decode = Decoder(32, 32, max_pixels=40_000)
    # An eighth of 1000 x 1000 is 125 x 125, which is still above twice what 32 pixels need.
    large = plain(RED, (1000, 1000))
    assert decode(written(large, "JPEG")).shape == (32, 32, 3)
    # The library holds all coefficients of a progressive picture, whatever size is asked for.
    assert reason(written(large, "JPEG", progressive=True), decode) == "more than 40,000 pixels"


def test_a_jpeg_of_one_scan_per_colour_counts_in_full():
    data = written(plain(RED, (1000, 1000)), "JPEG")
    scan = data.rindex(b"\xff\xda\x00\x0c\x03")  # the header of the one scan, of three colours
    first = data[:scan] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + data[scan + 14 :]
    assert reason(first, Decoder(32, 32, max_pixels=40_000)) == "more than 40,000 pixels"


# In a process of its own, whose peak is not that of other tests.
PEAK = """
import resource, sys
import numpy as np
from mmnet.encoders.pictures import Decoder, Unusable
unit = 1 if sys.platform == "darwin" else 1024
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
decode = Decoder(224, 224)
for path in sys.argv[1:]:
    data = open(path, "rb").read()
    before = peak()
    try:
        decode(data)
        told = "decoded"
    except Unusable as why:
        told = str(why)
    print(told, peak() - before, sep="|")
"""


def peaks(tmp_path, *files):
    """What became of each file, and by how many bytes it raised the peak of a process."""
    for i, data in enumerate(files):
        (tmp_path / str(i)).write_bytes(data)
    told = subprocess.run(
        [sys.executable, "-c", PEAK, *(str(tmp_path / str(i)) for i in range(len(files)))],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout
    return [(line.split("|")[0], int(line.split("|")[1])) for line in told.splitlines()]


def test_a_picture_of_a_hundred_megapixels_takes_no_memory(tmp_path):
    side = 10_000
    grey, bits = Image.new("L", (side, side), 120), Image.new("1", (side, side))
    gif = b"GIF89a\x10\0\x10\0\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x4c\x01\0;"
    webp = b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\xff\xff\xff\x0f" + b"\0" * 8
    refused = [
        written(grey),
        written(bits),
        written(grey, "JPEG", progressive=True),
        gif,  # a frame of 65,535 x 65,535 in a picture of 16 x 16
        webp,  # 16,384 x 16,384
        png(2**31 - 1, 2**31 - 1, chunk(b"IDAT", zlib.compress(b"\0" * 1000))),
    ]
    for told, grown in peaks(tmp_path, *refused):
        assert told == "more than 50,000,000 pixels"
        assert grown < 4e6  # a few of Pillow's modules and buffers; any of these has 100 MB
    # The same as JPEG is decoded, at an eighth of each side: 1,250 x 1,250.
    ((told, grown),) = peaks(tmp_path, written(grey, "JPEG"))
    assert told == "decoded"
    assert grown < 10e6


def test_compressed_notes_do_not_unpack_without_end(tmp_path):
    bomb = zlib.compress(b"\0" * 200_000_000)
    notes = [
        png(64, 64, chunk(b"zTXt", b"note\0\0" + bomb)),
        png(64, 64, chunk(b"iCCP", b"note\0\0" + bomb)),
    ]
    for _, grown in peaks(tmp_path, *notes):
        assert grown < 20e6


def test_the_largest_pictures_stay_within_the_bound(tmp_path):
    draw = np.random.default_rng(0)
    noise = Image.fromarray(draw.integers(0, 256, (150, 200, 4), np.uint8))
    large = noise.resize((2000, 1500), Image.Resampling.NEAREST)  # lossless WebP takes the most
    ((told, grown),) = peaks(tmp_path, written(large, "WEBP", lossless=True, method=0))
    assert told == "decoded"
    assert grown < pictures.BYTES_PER_PIXEL * 2000 * 1500


def test_big_pictures_are_decoded_one_at_a_time(monkeypatch):
    decode = Decoder(224, 224, big_bytes=pictures.BYTES_PER_PIXEL * 64 * 64)
    now, most = [], []

    def fit(self, picture):
        now.append(picture)
        time.sleep(0.02)
        most.append(len(now))
        now.remove(picture)

    monkeypatch.setattr(Decoder, "_fit", fit)
    for size, together in (((64, 65), 1), ((64, 64), 4)):
        most.clear()
        data = written(plain(RED, size))
        threads = [threading.Thread(target=decode, args=(data,)) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(most) == 4
        assert max(most) <= together


# ---------------------------------------------------------------- files and names


@pytest.fixture
def root(tmp_path):
    directory = tmp_path / "root"
    (directory / "sub").mkdir(parents=True)
    (directory / "a.png").write_bytes(b"data of a")
    (directory / "sub" / "b.png").write_bytes(b"data of b")
    (tmp_path / "secret.png").write_bytes(b"secret")
    return directory


def unreadable(root, name, **options):
    with pytest.raises(Unusable) as caught:
        Folder(root, **options).read(name)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.png", "./a.png", "sub/../a.png", "sub//..//a.png"])
def test_reads_files_below_the_root(root, name):
    assert Folder(root).read(name) == b"data of a"


@pytest.mark.parametrize("name", ["обложка 1.jpg", "表紙.jpg", "cafe\u0301.jpg", "😀 .jpg", "a\nb"])
def test_names_may_hold_any_letters(root, name):
    (root / name).write_bytes(b"data")
    assert Folder(root).read(name) == b"data"


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "sub/../../secret.png",
        "..",
        "../root-b/a",
        "out",
        "sub/far/passwd",
    ],
)
def test_nothing_outside_the_root_is_read(root, name):
    (root / "out").symlink_to("../secret.png")
    (root / "sub" / "far").symlink_to("/etc")
    (root.parent / "root-b").mkdir()
    with pytest.raises(InputError, match="outside --image_root") as caught:
        Folder(root).read(name)
    assert repr(name) in str(caught.value)


def test_an_absolute_path_is_refused_even_within_the_root(root):
    with pytest.raises(InputError, match="relative"):
        Folder(root).read(str(root / "a.png"))


def test_links_within_the_root_are_followed(root):
    (root / "link.png").symlink_to("sub/b.png")
    (root / "folder").symlink_to("sub")
    assert Folder(root).read("link.png") == b"data of b"
    assert Folder(root).read("folder/b.png") == b"data of b"


def test_the_root_may_be_a_link(root, tmp_path):
    (tmp_path / "elsewhere").symlink_to(root)
    assert Folder(tmp_path / "elsewhere").read("a.png") == b"data of a"


@pytest.mark.parametrize(
    "name", ["none.png", "a.png/b.png", "nul\0.png", "half\ud800.png", "http://x.org/a.png"]
)
def test_a_file_that_is_not_there_is_told(root, name):
    assert unreadable(root, name) == "no such file"


def test_a_name_that_is_too_long_is_told(root):
    assert unreadable(root, "x" * 5000).startswith("not readable (")


def test_a_circle_of_links_is_told(root):
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    assert unreadable(root, "one") == "not a regular file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_and_directories_are_not_opened(root):
    os.mkfifo(root / "pipe.png")  # opening it would wait for a writer for ever
    for name in ("pipe.png", "sub", "."):
        assert unreadable(root, name) == "not a regular file"


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may read everything")
def test_a_file_without_permission_is_told(root):
    (root / "a.png").chmod(0)
    assert unreadable(root, "a.png") == "not readable (Permission denied)"


def test_empty_and_large_files_are_told(root):
    (root / "empty.png").touch()
    assert unreadable(root, "empty.png") == "empty file"
    assert unreadable(root, "a.png", max_bytes=8) == "larger than 8 bytes"
    assert Folder(root, max_bytes=9).read("a.png") == b"data of a"


def test_a_root_that_is_not_there_is_an_input_error(tmp_path):
    (tmp_path / "file").touch()
    for name in ("none", "file"):
        with pytest.raises(InputError, match="no such directory"):
            Folder(tmp_path / name)


@given(name=st.text(alphabet=st.sampled_from("ab./~\\\0é\ud800 "), max_size=12))
def test_any_name_stays_within_the_root(tmp_path_factory, name):
    root = tmp_path_factory.getbasetemp() / "any" / "root"
    (root / "a").mkdir(parents=True, exist_ok=True)
    (root / "a" / "b").write_bytes(b"inside")
    (root.parent / "a").write_bytes(b"outside")
    with contextlib.suppress(InputError, Unusable):
        assert Folder(root).read(name) == b"inside"


def test_pngs_chunks_are_written_as_this_test_reads_them():
    assert PngImagePlugin.PngImageFile(io.BytesIO(png(3, 2))).size == (3, 2)
