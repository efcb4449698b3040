"""MNIST (LeCun, Cortes and Burges, 1998) and Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017)."""

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpnet.data.idx import read_idx
from xpnet.data.raw import Raw
from xpnet.errors import InputError

__all__ = ["read_mnist", "read_mnist_5000"]

MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion-mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
}
# Training pictures and labels, test pictures and labels: the order in which they are read.
SHA256 = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
}
# Of the decompressed files, in the same order, where they are known.
SHA256_UNZIPPED = {
    "mnist": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
# Bytes of the compressed files, in the same order.
SIZES = {
    "mnist": (9_912_422, 28_881, 1_648_877, 4_542),
    "fashion-mnist": (26_421_880, 29_515, 4_422_102, 5_148),
}
CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}


def read_mnist(
    name: str, data_dir: str | Path | None = None, *, download: bool = True, quiet: bool = False
) -> Raw:
    """Read the four IDX files of "mnist" or "fashion-mnist", gzipped or not.

    Args:
        name: which of the two.
        data_dir: folder that holds them; by default the user's cache.
        download: whether to download what is missing in the cache. Nothing is written to a `data_dir`.
        quiet: download without showing progress.

    Returns:
        uint8 pictures (n, 28, 28) and uint8 labels 0 ... 9, with the original test part.

    Raises:
        InputError: a file is missing, cannot be downloaded or is broken, or the files do not match.
    """
    folder = _find_cache(name) if data_dir is None else Path(os.path.expanduser(data_dir))
    found = {file: _find_file(folder, file) for file in SHA256[name]}
    missing = [file for file, path in found.items() if path is None]
    if missing and (data_dir is not None or not download):
        raise InputError(
            f"{folder}: expected the four files of {name}, with or without .gz; missing: {', '.join(missing)}"
        )
    if missing:
        from xpnet.data.download import fetch  # only here: urllib takes its time to import

        for (file, sha256), size in zip(SHA256[name].items(), SIZES[name], strict=True):
            if file in missing:
                found[file] = folder / file
                urls = [mirror + file for mirror in MIRRORS[name]]
                fetch(urls, sha256, size, folder / file, quiet=quiet)

    paths = [path for path in found.values() if path]
    train_images, train_labels, test_images, test_labels = paths
    X, y = _read_pair(train_images, train_labels)
    X_test, y_test = _read_pair(test_images, test_labels)
    notes = () if data_dir is None else _find_changes(name, paths)
    return Raw(X, y, X_test, y_test, classes=CLASSES[name], notes=notes)


def read_mnist_5000(data_dir: str | Path | None = None, *, quiet: bool = False) -> Raw:
    """Read the central 20 x 20 pixels of MNIST, with the first 500 training digits of each class.

    The rows keep MNIST's order. The 5,000 digits of Andrew Ng's course were taken from MNIST in this way.
    """
    raw = read_mnist("mnist", data_dir, quiet=quiet)
    place = np.empty(len(raw.y), dtype=np.int64)  # of each digit among those of its class
    for label in range(10):
        members = np.flatnonzero(raw.y == label)
        place[members] = np.arange(members.size)
    first = place < 500
    assert raw.X_test is not None
    return raw._replace(X=raw.X[first, 4:24, 4:24], y=raw.y[first], X_test=raw.X_test[:, 4:24, 4:24])


def _read_pair(images: Path, labels: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    X, y = read_idx(images), read_idx(labels)
    if X.ndim != 3:
        raise InputError(f"{images}: byte 3: expected 3 dimensions (pictures), found {X.ndim}")
    if y.ndim != 1:
        raise InputError(f"{labels}: byte 3: expected 1 dimension (labels), found {y.ndim}")
    if len(y) != len(X):
        raise InputError(
            f"{labels}: expected {len(X)} labels, one for each picture in {images.name}, found {len(y)}"
        )
    wrong = (y > 9).nonzero()[0]
    if len(wrong):
        first = wrong[0]
        raise InputError(
            f"{labels}: byte {8 + first}, label of picture {first}: expected 0 to 9, found {y[first]}"
        )
    return X, y


def _find_changes(name: str, paths: list[Path]) -> tuple[str, ...]:
    """Return a warning for each file that is not the original one."""
    zipped = SHA256[name].values()
    unzipped = SHA256_UNZIPPED.get(name, ("",) * len(paths))
    notes = []
    for path, *known in zip(paths, zipped, unzipped, strict=True):
        expected = known[path.suffix != ".gz"]
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if expected and found != expected:
            notes.append(f"warning: {path} is not the original file of {name}: its SHA-256 differs")
    return tuple(notes)


def _find_cache(name: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(base) / "xpnet" / name


def _find_file(folder: Path, file: str) -> Path | None:
    for path in (folder / file, folder / file.removesuffix(".gz")):
        if path.is_file():
            return path
    return None
