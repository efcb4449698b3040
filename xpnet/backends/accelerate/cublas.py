"""The functions of CuPy that cannot be captured into a CUDA graph, above all products (CuPy issue 6290)."""

import ctypes
from importlib import import_module
from itertools import accumulate
from typing import Any, NamedTuple

from xpnet._typing import Namespace

__all__ = ["Capturable", "Gemm", "gemm"]

# As PyTorch: cuBLAS has faster algorithms that need more memory from compute capability 9.0 on.
_WORKSPACE_BYTES, _WORKSPACE_BYTES_BEFORE_90 = 2**25, 2**23

# Where cuBLAS finds scalars, as in cublas_api.h.
_ON_THE_HOST, _ON_THE_DEVICE = 0, 1


class Gemm(NamedTuple):
    """The arguments of a column-major gemm: C (m, n) = op(A) (m, k) op(B) (k, n), with leading dimensions."""

    transpose_a: bool
    transpose_b: bool
    m: int
    n: int
    k: int
    ld_a: int
    ld_b: int


def gemm(a: Any, b: Any) -> Gemm:
    """Return the arguments for the row-major product a (n, k) b (k, m), with b as A and a as B.

    A row-major matrix, read column by column, is its transpose, and (a b)ᵀ = bᵀ aᵀ.

    Raises:
        ValueError: neither the rows nor the columns of a matrix are contiguous.
    """
    transpose_b, ld_b = _by_columns(a)
    transpose_a, ld_a = _by_columns(b)
    return Gemm(transpose_a, transpose_b, b.shape[1], a.shape[0], a.shape[1], ld_a, ld_b)


def _by_columns(x: Any) -> tuple[bool, int]:
    """Return whether xᵀ, read column by column, has to be transposed, and its leading dimension."""
    rows, columns = (stride // x.itemsize for stride in x.strides)
    if columns == 1 or x.shape[1] == 1:
        return False, max(rows, x.shape[1])
    if rows == 1 or x.shape[0] == 1:
        return True, max(columns, x.shape[0])
    raise ValueError(f"strides {x.strides} of a matrix {x.shape}: expected contiguous rows or columns")


class Capturable:
    """CuPy's namespace with what CUDA graphs need: call `use` with the stream before anything else.

    `matmul` calls cuBLAS, through CuPy's own handle. `concat` copies array by array. CuPy's own sends a table
    of addresses to the device if there are many arrays, which cannot be captured.
    """

    def __init__(self, xp: Namespace, cupy: Any) -> None:
        self.xp, self.cupy = xp, cupy
        self.cublas = _load_cublas(cupy.cuda.runtime.runtimeGetVersion() // 1000)
        self.workspace: Any = None

    def allocate(self) -> None:
        """Allocate the memory that cuBLAS needs, unless that has been done."""
        if self.workspace is None:
            is_new = int(self.cupy.cuda.Device().compute_capability) >= 90
            n_bytes = _WORKSPACE_BYTES if is_new else _WORKSPACE_BYTES_BEFORE_90
            self.workspace = self.cupy.empty(n_bytes, dtype=self.cupy.uint8)

    def use(self, stream: Any) -> None:
        """Compute on this stream, which may be capturing. CuPy sets its own again before it computes."""
        self.allocate()
        self.handle = ctypes.c_void_p(self.cupy.cuda.device.get_cublas_handle())  # that of this thread
        self._check(self.cublas.cublasSetStream_v2(self.handle, ctypes.c_void_p(stream.ptr)))
        workspace = ctypes.c_void_p(self.workspace.data.ptr), ctypes.c_size_t(self.workspace.size)
        self._check(self.cublas.cublasSetWorkspace_v2(self.handle, *workspace))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.xp, name)

    def matmul(self, a: Any, b: Any, out: Any = None) -> Any:
        """Return a b, in `out` if it is given: a contiguous array."""
        if a.ndim == b.ndim == 1:
            return self._dot(a, b, out)
        if a.ndim != 2 or b.ndim != 2:
            return self.xp.matmul(a, b)
        how = gemm(a, b)
        c = self.cupy.empty((how.n, how.m), dtype=a.dtype) if out is None else out
        single = a.dtype == self.cupy.float32
        number = ctypes.c_float if single else ctypes.c_double
        function = self.cublas.cublasSgemm_v2 if single else self.cublas.cublasDgemm_v2
        one, zero = ctypes.byref(number(1.0)), ctypes.byref(number(0.0))
        left, right, place = (ctypes.c_void_p(x.data.ptr) for x in (b, a, c))
        how_a, how_b = int(how.transpose_a), int(how.transpose_b)
        sizes = how.m, how.n, how.k
        self._check(
            function(
                *(self.handle, how_a, how_b, *sizes, one, left, how.ld_a, right, how.ld_b, zero, place, how.m)
            )
        )
        return c

    def _dot(self, a: Any, b: Any, out: Any) -> Any:
        """Return the scalar product, computed on the device without a temporary vector."""
        c = self.cupy.empty((), dtype=a.dtype) if out is None else out
        function = self.cublas.cublasSdot_v2 if a.dtype == self.cupy.float32 else self.cublas.cublasDdot_v2
        pointers = [ctypes.c_void_p(x.data.ptr) for x in (a, b, c)]
        strides = [x.strides[0] // x.itemsize for x in (a, b)]
        self._check(self.cublas.cublasSetPointerMode_v2(self.handle, _ON_THE_DEVICE))
        try:
            self._check(
                function(self.handle, a.size, pointers[0], strides[0], pointers[1], strides[1], pointers[2])
            )
        finally:
            self._check(self.cublas.cublasSetPointerMode_v2(self.handle, _ON_THE_HOST))
        return c

    def concat(self, arrays: list[Any]) -> Any:
        if any(x.ndim != 1 for x in arrays):
            return self.xp.concat(arrays)
        ends = list(accumulate(x.shape[0] for x in arrays))
        joined = self.cupy.empty(ends[-1], dtype=arrays[0].dtype)
        for x, end in zip(arrays, ends, strict=True):
            joined[end - x.shape[0] : end] = x
        return joined

    def _check(self, status: int) -> None:
        if status != 0:
            raise RuntimeError(f"cuBLAS returned status {status}")


def _load_cublas(major: int) -> Any:
    """Return the cuBLAS of this major version of CUDA, as CuPy finds it."""
    try:
        pathfinder = import_module("cuda.pathfinder")
    except ImportError:  # CuPy, too, then takes what the system's loader finds
        return ctypes.CDLL(f"libcublas.so.{major}")
    return ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublas").abs_path)
