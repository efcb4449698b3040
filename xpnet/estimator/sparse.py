"""NumPy as the mathematics sees it when X is a SciPy sparse matrix.

All that the network does with X is two products and a choice of rows: with these three, X stays sparse from
end to end.
"""

from typing import Any

import numpy as np
from scipy.sparse import issparse

__all__ = ["SparseProducts"]


class SparseProducts:
    """The NumPy namespace, with a `matmul` and a `take` that know sparse matrices in CSR format."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def matmul(self, a: Any, b: Any) -> Any:
        return a @ b if issparse(a) else np.matmul(a, b)

    def take(self, x: Any, indices: Any, *, axis: int) -> Any:
        return x[indices] if issparse(x) else np.take(x, indices, axis=axis)
