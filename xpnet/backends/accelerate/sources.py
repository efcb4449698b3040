"""CUDA sources of the kernels that `kernels` generates.

There are four kinds of kernels, for an (n, k) matrix in row-major order (a vector has one row):

    flat     elementwise
    rows     elementwise, with maxima and sums along the rows; a warp computes a row
    columns  elementwise, with sums along the columns; a block computes 32 columns
    total    the sum of a vector, and what follows from it elementwise for 0-d arrays; one block

A thread reads no element that another thread of the kernel writes, except sums and maxima.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backends.accelerate.record import Call
from xpnet.backends.accelerate.traced import NotRecordable, Traced

__all__ = ["EXPRESSIONS", "find_key", "get_name", "is_ones", "write_kernel", "write_start", "write_take"]

_C_TYPES = {
    "bool": "bool",
    "int8": "signed char",
    "uint8": "unsigned char",
    "int16": "short",
    "uint16": "unsigned short",
    "int32": "int",
    "uint32": "unsigned int",
    "int64": "long long",
    "uint64": "unsigned long long",
    "float32": "float",
    "float64": "double",
}

# As NumPy, maxima and minima are NaN if an argument is.
_LARGER = "{0} != {0} || {0} > {1} ? {0} : {1}"
EXPRESSIONS = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
    "negative": "-{0}",
    "absolute": "fabs({0})",
    "exp": "exp({0})",
    "expm1": "expm1({0})",
    "log": "log({0})",
    "log1p": "log1p({0})",
    "sqrt": "sqrt({0})",
    "tanh": "tanh({0})",
    "maximum": _LARGER,
    "minimum": _LARGER.replace(">", "<"),
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
    "convert": "{0}",
    "assign": "{0}",
    "join": "{0}",
}

_SHELLS = {
    "flat": """
    const int step = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n * k; i += step) {
@    }
""",
    "rows": """
    const int r = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    if (r >= n) return;
@""",
    "columns": """
    const int j = blockIdx.x * 32 + threadIdx.x;
@""",
    "total": """
@""",
}
_LOOPS = {
    "rows": "    for (int j = lane; j < k; j += 32) {\n",
    "columns": "    for (int r = threadIdx.y; r < n && j < k; r += 16) {\n",
}
_INDICES = {"flat": {"r": "i / k", "j": "i % k"}, "rows": {"i": "r * k + j"}, "columns": {"i": "r * k + j"}}
_ADDRESSES = {"element": "i", "row": "r", "column": "j", "number": "0"}


def _get_c_type(dtype: Any) -> str:
    """Return the type of C++ for a dtype of NumPy. Raises NotRecordable if there is none."""
    if str(dtype) not in _C_TYPES:
        raise NotRecordable(f"kernels have no {dtype}")
    return _C_TYPES[str(dtype)]


def get_name(call: Call) -> str:
    """Return the name of what the call computes, a key of `EXPRESSIONS` or another."""
    return call.function.__name__.strip("_")


def is_ones(x: Any) -> bool:
    """Return whether x is a constant vector of ones, with which the recorder writes sums."""
    return isinstance(x, Traced) and x.ndim == 1 and x.description == ("1.0", x.dtype, x.shape)


def find_key(x: Traced) -> Any:
    """Return the same for two arrays with the same elements, of which one may be reshaped."""
    return x.owner.description if x.is_whole else repr(x.description)  # a slice cannot be hashed


def write_kernel(
    kind: str, space: tuple[int, int], calls: list[Call], is_used_after: Callable[[Traced], bool]
) -> tuple[str, list[Any]]:
    """Return the source of the function named `kind`, and its arguments: arrays, and NumPy numbers.

    Args:
        kind: `flat`, `rows`, `columns` or `total`.
        space: (n, k).
        calls: what it computes.
        is_used_after: whether an array (the owner of its memory) has to be in memory after the kernel.
    """
    writer = _Writer(kind, space, calls, is_used_after)
    writer.write()
    parameters = "".join(f"{declaration}, " for declaration, _ in writer.parameters.values())
    body = _SHELLS[kind].replace("@", "".join(writer.lines)).lstrip("\n")
    source = f'extern "C" __global__ void {kind}({parameters}int n, int k) {{\n{body}}}\n'
    return source, [argument for _, argument in writer.parameters.values()]


class _Writer:
    """Writes the calls one by one. A value stays in a variable until the end of its loop."""

    def __init__(
        self, kind: str, space: tuple[int, int], calls: list[Call], is_used_after: Callable[[Traced], bool]
    ) -> None:
        self.kind, self.space, self.calls, self.is_used_after = kind, space, calls, is_used_after
        self.lines: list[str] = []
        self.parameters: dict[Any, tuple[str, Any]] = {}
        self.outer: dict[Any, str] = {}  # variables outside of loops, by key
        self.inner: dict[Any, str] = {}  # variables of the open loop
        self.unsaved: dict[Any, Traced] = {}  # arrays with values that their memory does not have yet
        self.loop: list[str] | None = [] if kind == "flat" else None
        self.reductions: list[tuple[str, str, Call]] = []  # of the open loop: (variable, C type, call)
        self.position = self.n_names = 0

    def write(self) -> None:
        for i, call in enumerate(self.calls):
            self.position = i
            name = get_name(call)
            if self.kind == "total" and name == "dot":
                self._write_total(call)
            elif name in ("dot", "largest_of_rows"):
                self._reduce(call, "larger" if name == "largest_of_rows" else "sum")
            else:
                self._compute(call, name)
        self.position = len(self.calls)
        self._close()
        self._save_outer()

    def _compute(self, call: Call, name: str) -> None:
        *inputs, out = call.arguments
        level = self._find_level(out)
        if self.kind == "rows" and level == "row":
            self._close()
        elif self.kind in _LOOPS:
            pending = {find_key(c.out) for _, _, c in self.reductions}
            if any(isinstance(x, Traced) and find_key(x) in pending for x in inputs):
                self._close()
            self._open()
        words = [self._read(x, out.dtype) for x in inputs]
        if name not in ("convert", "assign", "join"):
            common = np.result_type(*(x.dtype for x in inputs))
            c_type = _get_c_type(common)
            words = [
                word if x.dtype == common else f"({c_type}){word}"
                for x, word in zip(inputs, words, strict=True)
            ]
        variable = self._make_name("v")
        self._add(f"const {_get_c_type(out.dtype)} {variable} = {EXPRESSIONS[name].format(*words)};")
        key = find_key(out)
        self.outer.pop(key, None)
        (self.outer if self.loop is None else self.inner)[key] = variable
        self.unsaved[key] = out

    def _reduce(self, call: Call, how: str) -> None:
        x = call.arguments[1] if is_ones(call.arguments[0]) else call.arguments[0]
        if find_key(x) in {find_key(c.out) for _, _, c in self.reductions}:
            self._close()
        self._open()
        word, c_type, total = self._read(x, x.dtype), _get_c_type(x.dtype), self._make_name("t")
        loop, self.loop = self.loop, None
        self._add(f"{c_type} {total} = {'0' if how == 'sum' else f'-({c_type})1 / ({c_type})0'};")
        self.loop = loop
        self._add(f"{total} = {self._combine(how, word, total)};")
        self.reductions.append((total, c_type, call))

    @staticmethod
    def _combine(how: str, a: str, b: str) -> str:
        return f"{b} + {a}" if how == "sum" else _LARGER.format(a, b)

    def _open(self) -> None:
        if self.loop is None:
            self.loop = []

    def _close(self) -> None:
        """End the open loop: save what is needed later, and combine what the threads have reduced."""
        if self.loop is None:
            return
        for key, variable in self.inner.items():
            x = self.unsaved.pop(key, None)
            if x is not None and self._is_needed(x):
                self._add(f"{self._point(x)}[{_ADDRESSES[self._find_level(x)]}] = {variable};")
        loop, self.loop = self.loop, None
        text = "".join(loop)
        for index, value in _INDICES[self.kind].items():
            if f"[{index}]" in text:
                loop.insert(0, f"        const int {index} = {value};\n")
        self.inner = {}
        if self.kind in _LOOPS:
            self.lines += [_LOOPS[self.kind], *loop, "    }\n"]
        else:
            self.lines += loop
        for variable, c_type, call in self.reductions:
            if self.kind == "rows":
                how = "sum" if get_name(call) == "dot" else "larger"
                self._add("for (int d = 16; d; d /= 2) {")
                self._add(f"    const {c_type} o = __shfl_xor_sync(0xffffffffu, {variable}, d);")
                self._add(f"    {variable} = {self._combine(how, 'o', variable)};")
                self._add("}")
                self.outer[find_key(call.out)] = variable
                self.unsaved[find_key(call.out)] = call.out
            else:
                shared = self._make_name("s")
                self._add(f"__shared__ {c_type} {shared}[16][32];")
                self._add(f"{shared}[threadIdx.y][threadIdx.x] = {variable};")
                self._add("__syncthreads();")
                self._add("if (threadIdx.y == 0 && j < k) {")
                self._add(f"    for (int y = 1; y < 16; y++) {variable} += {shared}[y][threadIdx.x];")
                self._add(f"    {self._point(call.out)}[j] = {variable};")
                self._add("}")
        self.reductions = []

    def _write_total(self, call: Call) -> None:
        x = call.arguments[1] if is_ones(call.arguments[0]) else call.arguments[0]
        c_type, total = _get_c_type(x.dtype), self._make_name("t")
        self._add(f"__shared__ {c_type} {total}[512];")
        self._add(f"{total}[threadIdx.x] = 0;")
        self._add(f"for (int i = threadIdx.x; i < k; i += 512) {total}[threadIdx.x] += {self._point(x)}[i];")
        self._add("for (int d = 256; d; d /= 2) {")
        self._add("    __syncthreads();")
        self._add(f"    if (threadIdx.x < d) {total}[threadIdx.x] += {total}[threadIdx.x + d];")
        self._add("}")
        self._add("if (threadIdx.x) return;")
        self.outer[find_key(call.out)] = f"{total}[0]"
        self.unsaved[find_key(call.out)] = call.out

    def _save_outer(self) -> None:
        needed = [(key, x) for key, x in self.unsaved.items() if self._is_needed(x)]
        if needed and self.kind == "rows":
            self._add("__syncwarp();")
            self._add("if (lane) return;")
        for key, x in needed:
            address = "0" if self.kind == "total" else "r"
            self._add(f"{self._point(x)}[{address}] = {self.outer[key]};")

    def _is_needed(self, x: Traced) -> bool:
        later = {
            a.owner for call in self.calls[self.position :] for a in call.arrays
        }  # `in` a list would call ==
        return x.owner in later or self.is_used_after(x.owner)

    def _read(self, x: Any, dtype: Any) -> str:
        if not isinstance(x, Traced):
            x = np.asarray(x, dtype)[()]
            return self._declare(("number", repr(x), str(dtype)), f"const {_get_c_type(dtype)} ", x)
        key = find_key(x)
        known = self.inner.get(key) or self.outer.get(key)
        if known is not None:
            return known
        c_type = _get_c_type(x.dtype)
        if isinstance(x.owner.memory, np.ndarray) and not x.shape:
            return self._declare(key, f"const {c_type} ", x.value[()])
        variable = self._make_name("v")
        self._add(f"const {c_type} {variable} = {self._point(x)}[{_ADDRESSES[self._find_level(x)]}];")
        (self.outer if self.loop is None else self.inner)[key] = variable
        return variable

    def _point(self, x: Traced) -> str:
        """Return the name of the parameter that points to x."""
        return self._declare(find_key(x), f"{_get_c_type(x.dtype)}* ", x)

    def _declare(self, key: Any, c_type: str, argument: Any) -> str:
        if key not in self.parameters:
            self.parameters[key] = f"{c_type}p{len(self.parameters)}", argument
        return self.parameters[key][0].rpartition(" ")[2]

    def _find_level(self, x: Traced) -> str:
        """Return how x depends on the place in the (n, k) matrix."""
        if self.kind == "total":
            return "number"
        return _find_level(x.shape, self.space)

    def _make_name(self, letter: str) -> str:
        self.n_names += 1
        return f"{letter}{self.n_names}"

    def _add(self, line: str) -> None:
        if self.loop is None:
            self.lines.append(f"    {line}\n")
        else:
            self.loop.append(f"        {line}\n")


def _find_level(shape: tuple[int, ...], space: tuple[int, int]) -> str:
    """Return what an array of this shape is in an (n, k) matrix: element, number, row or column of it.

    Raises:
        NotRecordable: it does not fit.
    """
    n, k = space
    padded = (1,) * (2 - len(shape)) + shape
    for level, fitting in {"element": (n, k), "number": (1, 1), "row": (n, 1), "column": (1, k)}.items():
        if padded == fitting:
            return level
    raise NotRecordable(f"an array {shape} in a kernel for a matrix ({n}, {k})")


def write_take(x: Any, index: Any) -> str:
    """Return the source of `take`, for `out = x[index]` with any strides of x, given in elements."""
    c_type, c_index = _get_c_type(x.dtype), _get_c_type(index.dtype)
    return f"""extern "C" __global__ void take(
    const {c_type}* x, const {c_index}* index, {c_type}* out,
    long long by_row, long long by_column, int n, int k
) {{
    const int step = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n * k; i += step)
        out[i] = x[index[i / k] * by_row + i % k * by_column];
}}
"""


def write_start(dtype: Any, index: Any) -> str:
    """Return the source of `start`, which finds the rows and the coefficients of the step."""
    c_type, c_index = _get_c_type(dtype), _get_c_type(index)
    return f"""extern "C" __global__ void start(
    const long long* counter, const {c_type}* table, {c_type}* line, int k,
    const {c_index}* rows, {c_index}* index, int size, int n
) {{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < k) line[i] = table[*counter * k + i];
    if (i < n) index[i] = rows[*counter * size + i];
}}
"""
