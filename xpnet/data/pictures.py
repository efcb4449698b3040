"""A user's picture of one digit or letter, prepared the way the makers of MNIST prepared theirs."""

import itertools
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.data.limits import check_file
from xpnet.errors import InputError

__all__ = ["SUFFIXES", "Picture", "read_picture"]

# Named for Pillow, which would also start a PostScript interpreter for a file that asks for one.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp")
FAINT = 16.0  # of 255: an unsteadiness of paper that nobody sees
EDGE = 0.15  # of the darkest ink: where a blurred stroke, or one that JPEG's ripples surround, ends
LONGEST = 1024  # pixels a side is enough to find a digit, however large the photograph
MOST_PIXELS = 1 << 25  # a decoded picture takes up to 30 bytes a pixel

# What tells a character from several, or from noise. Of MNIST's test digits, as they are, thick, thin or
# turned by up to 25 degrees, 0.2 to 0.3 % look like several and none like noise. Of two to five digits side
# by side 99 % are found, of two stacked ones 87 %, and all of seven kinds of noise that were not blank.
CHARACTER_AREA = 0.2  # of the largest piece of ink
CHARACTER_SIDE = 0.5  # of the height of all ink, for characters side by side
OVERLAP = 0.2  # of the narrower of two pieces; those of one broken character overlap more
STROKES = 2.5  # that a line crosses, on average over the rows and over the columns


class Picture(NamedTuple):
    """A picture as MNIST has it.

    Attributes:
        pixels: (height * width,) float64 in 0 ... 255, the ink bright.
        doubt: why it does not look like one digit or letter, None if it does.
    """

    pixels: NDArray[np.float64]
    doubt: str | None


def read_picture(
    path: str | os.PathLike[str], shape: tuple[int, int], *, box: float | None = None
) -> Picture:
    """Read a PNG, JPEG, GIF, BMP, TIFF or WebP file of one digit or letter.

    Ink comes out bright on dark, whichever way round the file has it. As in MNIST the picture is cropped to
    its ink, scaled (keeping its proportions) to fit a central box, and shifted by whole pixels until its
    centre of mass is in the middle. A picture that already obeys this rule comes out as it went in.

    Args:
        path: the file.
        shape: (height, width) of the pictures the network was trained on.
        box: the part of the height and width that the ink may fill. By default 20/28, MNIST's rule, for
            sides of 20 pixels and more; smaller pictures (scikit-learn's 8x8 digits) have no margin to
            spare and are filled.

    Raises:
        InputError: naming the file, if it cannot be read, is not a picture, is truncated, animated or far too
            large, or holds no ink; also if Pillow is not installed or `shape` or `box` makes no sense.
    """
    if min(shape) < 1:
        raise InputError(f"expected a shape (height, width) of at least (1, 1), got {tuple(shape)}")
    if box is None:
        box = 20 / 28 if min(shape) >= 20 else 1.0
    if not 0 < box <= 1:
        raise InputError(f"expected a box in (0, 1], a part of the picture's height and width, got {box}")
    ink = _ink(_grey(path), path)
    scaled = _scaled(ink, (round(box * shape[0]), round(box * shape[1])))
    return Picture(_centred(scaled, shape, margin=box < 1).ravel(), _find_doubt(ink))


def _grey(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Return the picture in `path`, upright, as grey levels 0 ... 255."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise InputError(f"{path}: reading pictures needs Pillow: pip install pillow") from error
    check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that is not used
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                image.draft(image.mode, (2 * LONGEST, 2 * LONGEST))  # a JPEG is decoded at a lower resolution
                if math.prod(image.size) > MOST_PIXELS:
                    raise Image.DecompressionBombError(
                        f"expected at most {MOST_PIXELS:,}, found {image.width} x {image.height}"
                    )
                # A telephone's JPEG is often an MPO: the photograph, then small variants of the same.
                frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
                with _no_stderr() if image.format == "TIFF" else nullcontext():
                    grey = _opaque(ImageOps.exif_transpose(image)) if frames == 1 else image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path}: too many pixels to be a digit; crop or shrink it first ({error})"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise InputError(
            f"{path}: not a picture; expected a PNG, JPEG, GIF, BMP, TIFF or WebP file"
        ) from error
    except Exception as error:  # A damaged file makes Pillow's decoders raise almost anything.
        raise InputError(
            f"{path}: cannot read it as a picture; is it damaged or truncated? ({error})"
        ) from error
    if frames > 1:
        raise InputError(f"{path}: expected one picture, got {frames} frames; save one of them by itself")
    grey.thumbnail((LONGEST, LONGEST))
    return np.asarray(grey, dtype=np.float64)


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Discard what libtiff itself writes to stderr about a damaged file. Pillow raises an error, too."""
    try:
        kept = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _opaque(image: Any) -> Any:
    """Return a Pillow image of any mode in grey, on white where transparent unless that hides the ink."""
    from PIL import Image

    if image.mode[0] in "IF":  # 16 bits or more, which Pillow's own conversion may clip instead of scaling
        levels = np.asarray(image, dtype=np.float64)
        if not np.isfinite(levels).all():
            raise ValueError("grey levels that are not finite")
        if image.mode == "F" or levels.max() > 65535:
            levels = 65535 * (levels - levels.min()) / (np.ptp(levels) or 1.0)
        return Image.fromarray((levels / 257).clip(0, 255).astype(np.uint8))
    colour = image.convert("RGBA")
    for paper in "white", "black":
        grey = Image.alpha_composite(Image.new("RGBA", colour.size, paper), colour).convert("L")
        darkest, brightest = grey.getextrema()
        if brightest - darkest >= 2 * FAINT:
            break
    return grey


def _ink(grey: NDArray[np.float64], path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Return `grey` cropped to its ink: 0 where there is none, else the contrast to the background."""
    from scipy import ndimage

    edge = max(1, min(grey.shape) // 16)
    rim = np.ones(grey.shape, dtype=bool)
    rim[edge:-edge, edge:-edge] = False
    # Paper is one level or, in a lamp's light, a slope; of the two, whichever leaves the rim quieter.
    plane = np.stack([np.ones(grey.shape), *np.indices(grey.shape)], axis=-1)
    slope = plane @ np.linalg.lstsq(plane[rim], grey[rim])[0]
    level = np.full(grey.shape, np.median(grey[rim]))
    noise, contrast = min(
        ((np.median(np.abs(grey - paper)[rim]), grey - paper) for paper in (level, slope)),
        key=lambda pair: pair[0],
    )
    if -contrast.min() > contrast.max():
        contrast = -contrast
    faint = max(FAINT, 4 * noise)
    if contrast.max() < 2 * faint:
        raise InputError(f"{path}: blank; expected ink that stands out clearly from the background")
    contrast[contrast < faint] = 0
    # Dust and grain are ink too, but small next to the digit.
    pieces, _ = ndimage.label(contrast, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel())
    contrast[sizes[pieces] < 0.01 * sizes[1:].max()] = 0
    dark = contrast > EDGE * contrast.max()
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    return contrast[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _find_doubt(ink: NDArray[np.float64]) -> str | None:
    """Return why this ink does not look like one character, None if it does."""
    from scipy import ndimage

    dark = ink > EDGE * ink.max()
    labels, _ = ndimage.label(dark, np.ones((3, 3)))
    areas = np.bincount(labels.ravel())[1:]
    is_large = areas >= CHARACTER_AREA * areas.max()
    boxes = list(itertools.compress(ndimage.find_objects(labels), is_large))
    n_strokes = []
    for axis in 0, 1:
        across = dark.shape[1 - axis]
        sides = sorted(
            (box[axis].start, box[axis].stop)
            for box in boxes
            if box[1 - axis].stop - box[1 - axis].start >= CHARACTER_SIDE * across
        )
        for (first, end), (start, last) in itertools.pairwise(sides):
            if end - start <= OVERLAP * min(end - first, last - start):
                return "several characters: crop it to one"
        begins = np.diff(dark.astype(np.int8), axis=axis, prepend=0) > 0
        n_strokes.append(begins.sum() / across)
    return "noise: no strokes found" if min(n_strokes) > STROKES else None


def _scaled(ink: NDArray[np.float64], box: tuple[int, int]) -> NDArray[np.float64]:
    """Return `ink` as large as fits `box`, its proportions kept, its strokes reaching 255."""
    from PIL import Image

    scale = min(box[0] / ink.shape[0], box[1] / ink.shape[1])
    height, width = (max(1, round(scale * side)) for side in ink.shape)
    resized = Image.fromarray(ink.astype(np.float32)).resize((width, height), Image.Resampling.HAMMING)
    scaled = np.asarray(resized, dtype=np.float64)
    # Not the maximum: a single dark dot must not make the strokes pale.
    return np.clip(scaled * (255 / np.quantile(scaled[scaled > 0], 0.95)), 0, 255)


def _centred(ink: NDArray[np.float64], shape: tuple[int, int], *, margin: bool) -> NDArray[np.float64]:
    """Return `ink` on a dark picture of `shape`, its centre of mass in the middle as far as it fits."""
    picture = np.zeros(shape)
    place = []
    for axis, (side, length) in enumerate(zip(shape, ink.shape, strict=True)):
        mass = ink.sum(axis=1 - axis)
        # MNIST's makers took pixel 14 of 0 ... 27 for the middle; without a margin the eye would notice.
        middle = side // 2 if margin else (side - 1) / 2
        first = math.floor(middle - mass @ np.arange(length) / mass.sum() + 0.5)
        first = min(max(first, 0), side - length)
        place.append(slice(first, first + length))
    picture[tuple(place)] = ink
    return picture
