"""A flat vector held as its pieces, for XLA: it computes with the parts of a network without joining them.

On the CPU XLA runs one large operation on the joined vector far slower than one on each of its pieces.
"""

from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any

from xpnet._typing import Namespace

__all__ = ["PieceNamespace", "Pieces", "find_sizes"]

_ELEMENTWISE = {
    *("abs", "astype", "exp", "expm1", "log", "log1p", "maximum", "minimum", "ones_like", "sqrt", "tanh"),
    *("where", "zeros_like"),
}


class Pieces:
    """A vector (n,) as a list of arrays, which are joined only where an operation needs it."""

    def __init__(self, parts: list[Any], xp: Any) -> None:
        self.parts, self.xp = parts, xp

    @classmethod
    def cut(cls, x: Any, sizes: list[int], xp: Any) -> "Pieces":
        """Return the vector x, or Pieces, as pieces of these sizes."""
        if isinstance(x, Pieces):
            return x
        ends = accumulate(sizes)
        return cls([x[end - size : end] for size, end in zip(sizes, ends, strict=True)], xp)

    def join(self) -> Any:
        """Return the vector as one array."""
        return self.xp.concat(self.parts)

    @property
    def dtype(self) -> Any:
        return self.parts[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(part.shape[0] for part in self.parts),)

    @property
    def ndim(self) -> int:
        return 1

    @property
    def T(self) -> "Pieces":
        return self

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice) and key.step in (None, 1):
            start, stop, _ = key.indices(self.shape[0])
            end, found = 0, []
            for part in self.parts:
                begin, end = end, end + part.shape[0]
                if start <= begin and end <= stop:
                    found.append(part)
            if sum(part.shape[0] for part in found) == stop - start and found:
                return found[0] if len(found) == 1 else Pieces(found, self.xp)
        return self.join()[key]

    def __neg__(self) -> "Pieces":
        return Pieces([-part for part in self.parts], self.xp)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.join(), name)


def _map(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call the elementwise function for each piece."""
    pieces = [x for x in arguments if isinstance(x, Pieces)]
    counts = {tuple(part.shape for part in x.parts) for x in pieces}
    others = [x for x in arguments if not isinstance(x, Pieces) and getattr(x, "ndim", 0) > 0]
    if len(counts) > 1 or others:
        return function(*(x.join() if isinstance(x, Pieces) else x for x in arguments), **options)
    n = len(pieces[0].parts)
    return Pieces(
        [
            function(*(x.parts[i] if isinstance(x, Pieces) else x for x in arguments), **options)
            for i in range(n)
        ],
        pieces[0].xp,
    )


def _operator(name: str) -> Callable[[Pieces, Any], Any]:
    def operator(self: Pieces, other: Any) -> Any:
        return _map(lambda a, b: getattr(a, name)(b), self, other)

    return operator


for _name in ("add", "sub", "mul", "truediv", "gt", "ge", "lt", "le", "eq", "ne"):
    setattr(Pieces, f"__{_name}__", _operator(f"__{_name}__"))
    if _name in ("add", "sub", "mul", "truediv"):
        setattr(Pieces, f"__r{_name}__", _operator(f"__r{_name}__"))


class PieceNamespace:
    """A namespace whose functions also take Pieces, and whose `concat` of these sizes returns Pieces."""

    def __init__(self, xp: Namespace, sizes: list[int]) -> None:
        self.xp: Any = xp
        self.sizes = sizes

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.xp, name)
        if not callable(function) or isinstance(function, type):
            return function
        return partial(self._call, name, function)

    def _call(self, name: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if not any(isinstance(x, Pieces) for x in arguments):
            return function(*arguments, **options)
        if name in _ELEMENTWISE:
            return _map(function, *arguments, **options)
        return function(*(x.join() if isinstance(x, Pieces) else x for x in arguments), **options)

    def concat(self, arrays: list[Any], **options: Any) -> Any:
        if [x.shape for x in arrays] == [(size,) for size in self.sizes]:
            return Pieces(list(arrays), self.xp)
        return self.xp.concat([x.join() if isinstance(x, Pieces) else x for x in arrays], **options)

    def matmul(self, a: Any, b: Any) -> Any:
        if isinstance(a, Pieces) and isinstance(b, Pieces) and len(a.parts) == len(b.parts):
            return sum(self.xp.matmul(x, y) for x, y in zip(a.parts, b.parts, strict=True))
        return self._call("matmul", self.xp.matmul, a, b)

    def sum(self, x: Any, /, **options: Any) -> Any:
        if isinstance(x, Pieces) and not options:
            return sum(self.xp.sum(part) for part in x.parts)
        return self._call("sum", self.xp.sum, x, **options)


class _Noting(PieceNamespace):
    """Notes the sizes of the arrays that are joined to a vector of n elements."""

    def __init__(self, xp: Namespace, n: int) -> None:
        super().__init__(xp, [n])
        self.n = n

    def concat(self, arrays: list[Any], **options: Any) -> Any:
        if all(x.ndim == 1 for x in arrays) and sum(x.shape[0] for x in arrays) == self.n:
            self.sizes = [x.shape[0] for x in arrays]
        return self.xp.concat(arrays, **options)


def find_sizes(step: Callable[..., Any], n: int, xp: Namespace) -> list[int]:
    """Return the sizes of the arrays that step(xp=...) joins to a vector of n elements, the gradient."""
    noting = _Noting(xp, n)
    step(xp=noting)
    return noting.sizes
