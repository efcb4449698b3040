"""NumPy as the mathematics sees it where X is not an array stored row by row.

All that the network does with X is two products and a choice of rows. With these, a SciPy sparse matrix stays
sparse from end to end, and a DataFrame or a slice of columns is not copied, which `numpy.take` would do whole
for every batch.
"""

from typing import Any

import numpy as np
from scipy.sparse import issparse

__all__ = ["HostNamespace"]


class HostNamespace:
    """The NumPy namespace for X in CSR format, or in an order that is not NumPy's own."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def astype(self, x: Any, dtype: Any, /, *, copy: bool = True) -> Any:
        return x.astype(dtype, copy=copy)

    def matmul(self, a: Any, b: Any) -> Any:
        return a @ b if issparse(a) else np.matmul(a, b)

    def take(self, x: Any, indices: Any, *, axis: int) -> Any:
        return x[indices]
