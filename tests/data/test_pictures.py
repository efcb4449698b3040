"""A picture of one's own comes out as MNIST's makers would have prepared it."""

import gzip
import os
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest

from xpnet.data.pictures import read_picture
from xpnet.errors import InputError

pytest.importorskip("PIL")
from PIL import Image, ImageDraw
from scipy import ndimage

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist" / "t10k-images-idx3-ubyte.gz"
SHAPE = (28, 28)


@pytest.fixture
def read(tmp_path):
    """Save a Pillow image and read it back as a picture (height, width)."""

    def save_and_read(image, name="it.png", shape=SHAPE, box=None, **options):
        image.save(tmp_path / name, **options)
        row = read_picture(tmp_path / name, shape, box=box).pixels
        assert row.shape == (shape[0] * shape[1],)
        assert row.dtype == np.float64
        assert 0 <= row.min() < row.max() <= 255
        return row.reshape(shape)

    return save_and_read


@pytest.fixture(scope="module")
def digits():
    if not MNIST.exists():
        pytest.skip("no MNIST test pictures beside the repository")
    with gzip.open(MNIST) as file:
        return np.frombuffer(file.read(), dtype=np.uint8, offset=16).reshape(-1, 28, 28)[:60]


def seven(size=(200, 150), paper="white", ink="black", mode="RGB"):
    """Return a hand-drawn 7 of 90 x 60 pixels (height, width), far from the middle."""
    image = Image.new(mode, size, paper)
    ImageDraw.Draw(image).line([(20, 15), (75, 15), (35, 100)], fill=ink, width=10, joint="curve")
    return image


def extent(picture):
    rows, columns = np.nonzero(picture)
    return np.ptp(rows) + 1, np.ptp(columns) + 1


def centre_of_mass(picture):
    return [(picture * place).sum() / picture.sum() for place in np.indices(picture.shape)]


def similarity(ours, theirs):
    """Correlation at the best of the nine shifts by at most a pixel: a rounding is allowed to differ."""
    shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return max(np.corrcoef(np.roll(ours, shift, (0, 1)).ravel(), theirs.ravel())[0, 1] for shift in shifts)


def test_mnist_itself_hardly_changes(read, digits):
    change = [np.abs(read(Image.fromarray(digit)) - digit).mean() for digit in digits]
    assert np.median(change) < 0.5
    assert np.mean(change) < 1.5


@pytest.mark.parametrize("name", ["it.png", "it.jpg"])
def test_mnist_from_a_large_white_page(read, digits, name):
    found = []
    for digit in digits:
        page = Image.new("L", (400, 300), "white")
        page.paste(Image.fromarray(255 - digit).resize((150, 150), Image.Resampling.BICUBIC), (30, 120))
        found.append(similarity(read(page, name), digit))
    assert np.mean(found) > 0.96
    assert min(found) > 0.88


def test_mnist_from_a_photograph(read, digits):
    """Grey paper in a lamp's light, blue ink, the camera's noise, JPEG."""
    rng = np.random.default_rng(0)
    light = 215 - 60 * np.linspace(0, 1, 480)[:, None] - 25 * np.linspace(0, 1, 640)
    found = []
    for digit in digits[:20]:
        ink = np.zeros((480, 640))
        ink[200:360, 250:410] = np.asarray(Image.fromarray(digit).resize((160, 160))) / 255
        photograph = (light * (1 - 0.7 * ink))[:, :, None] * [0.95, 0.97, 1] + rng.normal(0, 6, (480, 640, 1))
        image = Image.fromarray(photograph.clip(0, 255).astype(np.uint8))
        found.append(similarity(read(image, "it.jpg"), digit))
    assert np.mean(found) > 0.95


@pytest.mark.parametrize(("height", "width"), [(100, 60), (60, 100), (300, 300), (7, 3)])
def test_ink_fills_the_central_box_and_keeps_its_proportions(read, height, width):
    page = Image.new("L", (400, 350), 255)
    page.paste(0, (11, 13, 11 + width, 13 + height))
    scale = 20 / max(height, width)
    assert extent(read(page)) == (round(scale * height), round(scale * width))


def test_the_centre_of_mass_is_in_the_middle(read):
    # MNIST's middle is pixel 14 of 0 ... 27.
    assert centre_of_mass(read(seven())) == pytest.approx((14, 14), abs=0.5)


@pytest.mark.parametrize(
    ("shape", "box", "expected"),
    [((8, 8), None, 8), ((16, 16), None, 16), ((32, 32), None, 23), ((28, 28), 0.5, 14)],
)
def test_the_box_suits_the_shape(read, shape, box, expected):
    assert max(extent(read(seven(), shape=shape, box=box))) == expected


def test_a_pale_thin_stroke_becomes_bright(read):
    page = Image.new("L", (400, 400), 255)
    ImageDraw.Draw(page).ellipse((100, 50, 300, 350), outline=170, width=3)
    assert np.median(np.sort(read(page).ravel())[-40:]) > 180


def test_dust_is_not_ink(read):
    dusty = seven((400, 400))
    for x, y in (380, 10), (5, 390), (300, 300):
        dusty.paste("black", (x, y, x + 2, y + 2))
    np.testing.assert_array_equal(read(dusty), read(seven((400, 400))))


def test_a_gif_or_a_telephones_jpeg_is_a_picture_too(read, tmp_path):
    expected = read(seven())
    np.testing.assert_array_equal(read(seven(), "it.gif"), expected)
    seven().save(tmp_path / "it.mpo", save_all=True, append_images=[seven((50, 120))])
    (tmp_path / "it.mpo").rename(tmp_path / "it.jpg")
    np.testing.assert_allclose(
        read_picture(tmp_path / "it.jpg", SHAPE).pixels.reshape(SHAPE), expected, atol=40
    )


def sixteen_bits(image):
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


SAME = {
    "white on black": lambda: seven(paper="black", ink="white"),
    "grey": lambda: seven().convert("L"),
    "black and white": lambda: seven().convert("1"),
    "palette": lambda: seven().convert("P"),
    "16 bits": lambda: sixteen_bits(seven()),
    "16 bits, white on black": lambda: sixteen_bits(seven(paper="black", ink="white")),
    "on transparent": lambda: seven(paper=(0, 0, 0, 0), mode="RGBA"),
    "white on transparent": lambda: seven(paper=(0, 0, 0, 0), ink="white", mode="RGBA"),
    "white on transparent white": lambda: seven(paper=(255, 255, 255, 0), ink="white", mode="RGBA"),
    "blue on yellow": lambda: seven(paper="yellow", ink="navy"),
    "large": lambda: seven().resize((1800, 1350), Image.Resampling.NEAREST),
}


@pytest.mark.parametrize("same", SAME)
def test_however_it_is_stored(read, same):
    np.testing.assert_allclose(read(SAME[same]()), read(seven()), atol=3 if same != "large" else 60)


def test_a_transparent_palette(read):
    picture = seven().quantize(2)
    paper = picture.getpixel((0, 0))
    np.testing.assert_array_equal(read(picture, transparency=paper), read(seven()))


def test_a_cmyk_jpeg(read):
    np.testing.assert_allclose(read(seven().convert("CMYK"), "it.jpg", quality=95), read(seven()), atol=30)


def test_a_telephone_held_sideways(read):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    sideways = seven().transpose(Image.Transpose.ROTATE_90)
    np.testing.assert_array_equal(read(sideways, exif=exif), read(seven()))


def refused(path, message, shape=SHAPE, **options):
    with pytest.raises(InputError, match=message) as caught:
        read_picture(path, shape, **options)
    assert path.name in str(caught.value)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
NO_PIXELS = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 0, 28, 8, 0, 0, 0, 0)
NO_PIXELS += struct.pack(">I", zlib.crc32(NO_PIXELS[12:]))


@pytest.mark.parametrize(
    "content",
    [b"", b"not a picture", POSTSCRIPT, NO_PIXELS],
    ids=["empty", "text", "postscript", "no pixels"],
)
def test_not_a_picture(tmp_path, content):
    path = tmp_path / "it.png"
    path.write_bytes(content)
    refused(path, "not a picture")


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.gif", "cut.bmp"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_cut_short(tmp_path, name, part):
    noise = np.random.default_rng(0).integers(256, size=(60, 60), dtype=np.uint8)
    path = tmp_path / name
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    refused(path, "truncated")


def test_no_such_file_or_a_folder(tmp_path):
    refused(tmp_path / "missing.png", "no such file")
    refused(tmp_path, "cannot read")


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "I;16"])
def test_blank(tmp_path, mode):
    path = tmp_path / "blank.png"
    Image.new(mode, (30, 40)).save(path)
    refused(path, "blank")


def test_blank_paper_photographed(tmp_path):
    light = 200 - 60 * np.linspace(0, 1, 300)[:, None] + np.random.default_rng(0).normal(0, 6, (300, 400))
    path = tmp_path / "paper.jpg"
    Image.fromarray(light.astype(np.uint8)).save(path)
    refused(path, "blank")


@pytest.mark.parametrize("name", ["moving.gif", "moving.png"])
def test_animated(tmp_path, name):
    path = tmp_path / name
    seven().save(path, save_all=True, append_images=[seven(ink="red"), seven(ink="blue")])
    refused(path, "got 3 frames")


@pytest.mark.parametrize("side", [9_600, 15_000])
def test_a_decompression_bomb(tmp_path, side, monkeypatch):
    # 1/100 of Pillow's limit on the side, so that the test need not make such a file.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS // 10_000)
    path = tmp_path / "bomb.png"
    Image.new("1", (side // 100, side // 100)).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused(path, "too many pixels")


def test_one_pixel_is_blank(tmp_path):
    path = tmp_path / "dot.png"
    Image.new("L", (1, 1)).save(path)
    refused(path, "blank")


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((0, 28), {}, "shape"),
        ((28, -1), {}, "shape"),
        (SHAPE, {"box": 0}, "box"),
        (SHAPE, {"box": 1.5}, "box"),
    ],
)
def test_a_target_that_makes_no_sense(tmp_path, shape, options, message):
    seven().save(tmp_path / "it.png")
    with pytest.raises(InputError, match=message):
        read_picture(tmp_path / "it.png", shape, **options)


def test_a_path_may_be_a_string(tmp_path):
    seven().save(tmp_path / "it.png")
    assert read_picture(os.fspath(tmp_path / "it.png"), SHAPE).pixels.max() == 255


def test_without_pillow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    refused(tmp_path / "it.png", "pip install pillow")


# More formats


@pytest.mark.parametrize("name", ["it.tif", "it.tiff", "it.webp"])
def test_a_scanners_tiff_and_a_webp(read, name):
    np.testing.assert_allclose(read(seven(), name), read(seven()), atol=0 if name != "it.webp" else 30)


def levels(dtype, darkest, brightest):
    """Return the 7 in levels of this type: TIFF alone holds integers of 32 bits, and floating point."""
    paper = np.asarray(seven().convert("L"), dtype=np.float64) / 255
    return Image.fromarray((darkest + (brightest - darkest) * paper).astype(dtype))


@pytest.mark.parametrize(
    ("dtype", "darkest", "brightest"),
    [
        (np.uint16, 0, 65535),
        (np.int32, 0, 65535),
        (np.int32, 0, 2**30),
        (np.float32, 0, 1),
        (np.float32, -3, 9),
        (np.float32, 100, 109),
    ],
)
def test_a_tiff_of_many_levels(read, dtype, darkest, brightest):
    np.testing.assert_allclose(read(levels(dtype, darkest, brightest), "it.tif"), read(seven()), atol=3)


def test_levels_that_are_not_finite(tmp_path):
    image = np.full((30, 30), np.nan, np.float32)
    Image.fromarray(image).save(tmp_path / "it.tif")
    refused(tmp_path / "it.tif", r"cannot read it as a picture.*not finite")


@pytest.mark.parametrize("name", ["pages.tif", "moving.webp"])
def test_several_pages(tmp_path, name):
    seven().save(tmp_path / name, save_all=True, append_images=[seven(ink="red")])
    refused(tmp_path / name, "got 2 frames")


# One character, several, or noise


@pytest.fixture(scope="module")
def many():
    """250 digits of MNIST's test part."""
    if not MNIST.exists():
        pytest.skip("no MNIST test pictures beside the repository")
    with gzip.open(MNIST) as file:
        return np.frombuffer(file.read(), dtype=np.uint8, offset=16).reshape(-1, 28, 28)[::40]


@pytest.fixture
def doubts(tmp_path):
    """A function that returns the doubt about each of some arrays of grey levels."""

    def doubts(pictures):
        found = []
        for picture in pictures:
            Image.fromarray(picture).save(tmp_path / "it.bmp")
            found.append(read_picture(tmp_path / "it.bmp", SHAPE).doubt)
        return found

    return doubts


def enlarged(digit):
    return np.asarray(Image.fromarray(digit).resize((112, 112), Image.Resampling.BICUBIC))


def turned(digit, rng):
    image = Image.fromarray(enlarged(digit))
    return np.asarray(image.rotate(rng.uniform(-25, 25), resample=Image.Resampling.BICUBIC))


ALTERED = {
    "as it is": lambda digit, rng: digit,
    "thick": lambda digit, rng: ndimage.grey_dilation(enlarged(digit), size=(7, 7)),
    "thin": lambda digit, rng: ndimage.grey_erosion(enlarged(digit), size=(5, 5)),
    "turned": turned,
}


@pytest.mark.parametrize("how", ALTERED)
def test_a_digit_is_hardly_ever_doubted(doubts, many, how):
    rng = np.random.default_rng(0)
    found = doubts(255 - ALTERED[how](digit, rng) for digit in many)
    assert sum(doubt is not None for doubt in found) < 0.01 * len(many)


def in_a_row(digits, gap):
    parts = [digit[:, digit.max(axis=0) > 40] for digit in map(enlarged, digits)]
    space = np.zeros((112, gap), np.uint8)
    return 255 - np.pad(np.hstack([parts[0], *(x for part in parts[1:] for x in (space, part))]), 20)


@pytest.mark.parametrize("gap", [4, 30])
@pytest.mark.parametrize("n", [2, 3])
def test_digits_side_by_side_are_several(doubts, many, n, gap):
    found = doubts(in_a_row(many[i : i + n], gap) for i in range(0, 120, n))
    assert sum(doubt == "several characters: crop it to one" for doubt in found) > 0.97 * len(found)


def test_a_digit_below_another_is_several(doubts, many):
    pairs = zip(many[:50], many[50:100], strict=True)
    found = doubts(in_a_row([above.T, below.T], 10).T for above, below in pairs)
    assert sum(doubt == "several characters: crop it to one" for doubt in found) > 0.8 * len(found)


@pytest.mark.parametrize(
    "noise",
    [
        lambda rng: rng.random((100, 100)) < 0.1,
        lambda rng: rng.random((100, 100)) < 0.5,
        lambda rng: rng.random((28, 28)) < 0.15,
        lambda rng: np.pad(rng.random((60, 60)), 6),
        lambda rng: np.pad(ndimage.gaussian_filter(rng.standard_normal((100, 100)), 3) > 0.02, 10),
    ],
    ids=["specks", "half black", "dots", "grey", "blobs"],
)
def test_noise_is_no_digit(doubts, noise):
    rng = np.random.default_rng(0)
    found = doubts((255 * noise(rng)).astype(np.uint8) for _ in range(20))
    assert None not in found
