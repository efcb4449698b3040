"""A NumPy namespace for sparse X, and for X that is not C-contiguous.

The network uses X only in two matrix products and to select rows. This namespace implements both so that a
SciPy sparse matrix stays sparse. It also avoids `numpy.take`, which would copy all of an X that is not
C-contiguous for every batch.
"""

from typing import Any

import numpy as np
from scipy.sparse import issparse

__all__ = ["HostNamespace"]


class HostNamespace:
    """The NumPy namespace for X in CSR format, or for an X that is not C-contiguous."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def astype(self, x: Any, dtype: Any, /, *, copy: bool = True) -> Any:
        return x.astype(dtype, copy=copy)

    def matmul(self, a: Any, b: Any) -> Any:
        return a @ b if issparse(a) else np.matmul(a, b)

    def take(self, x: Any, indices: Any, *, axis: int) -> Any:
        return x[indices]
