"""scikit-learn's bundled digits: 1,797 handwritten digits from the data of Alpaydin and Kaynak (1998)."""

import numpy as np

from xpnet.data.raw import Raw

__all__ = ["read_digits"]


def read_digits() -> Raw:
    """Return uint8 pictures (1797, 8, 8) with values 0 ... 16, and int64 labels 0 ... 9."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    return Raw(bunch.images.astype(np.uint8), bunch.target.astype(np.int64), highest=16.0)
