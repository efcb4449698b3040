"""A vector held as its pieces, for XLA: on the CPU one operation on a long vector is far slower than several.

`Pieces` and `PieceNamespace` know what xpnet's optimizers do with the vectors of the parameters. Anything
else raises an error, and the step then computes with the whole vectors.
"""

from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any

from xpnet._typing import Namespace

__all__ = ["PieceNamespace", "Pieces", "find_sizes"]

_ELEMENTWISE = (
    *("abs", "astype", "exp", "expm1", "log", "log1p", "maximum", "minimum", "ones_like", "sqrt", "tanh"),
    *("where", "zeros_like"),
)


class Pieces:
    """A vector as a list of arrays, its pieces."""

    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts

    @classmethod
    def cut(cls, x: Any, sizes: list[int]) -> "Pieces":
        """Return the vector x, or Pieces, as pieces of these sizes."""
        if isinstance(x, Pieces):
            return x
        ends = accumulate(sizes)
        return cls([x[end - size : end] for size, end in zip(sizes, ends, strict=True)])

    @property
    def dtype(self) -> Any:
        return self.parts[0].dtype

    @property
    def ndim(self) -> int:
        return 1

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(part.shape[0] for part in self.parts),)

    def __getitem__(self, key: slice) -> Any:
        """Return the one piece, or the pieces, that the slice consists of."""
        start, stop, _ = key.indices(self.shape[0])
        ends = list(accumulate(part.shape[0] for part in self.parts))
        found = [
            part
            for part, end in zip(self.parts, ends, strict=True)
            if start <= end - part.shape[0] and end <= stop
        ]
        if sum(part.shape[0] for part in found) != stop - start:
            raise IndexError(f"the slice {start}:{stop} cuts a piece in two")
        return found[0] if len(found) == 1 else Pieces(found)

    def __neg__(self) -> "Pieces":
        return Pieces([-part for part in self.parts])


def _map(function: Callable[..., Any], *arguments: Any, **options: Any) -> Pieces:
    """Call the elementwise function for each piece."""
    if any(getattr(x, "ndim", 0) > 0 for x in arguments if not isinstance(x, Pieces)):
        raise TypeError("expected Pieces and numbers")
    n = next(len(x.parts) for x in arguments if isinstance(x, Pieces))
    each = [x.parts if isinstance(x, Pieces) else [x] * n for x in arguments]
    return Pieces([function(*parts, **options) for parts in zip(*each, strict=True)])


def _operator(name: str) -> Callable[[Pieces, Any], Pieces]:
    return lambda self, other: _map(lambda a, b: getattr(a, name)(b), self, other)


for _name in ("add", "sub", "mul", "truediv"):
    setattr(Pieces, f"__{_name}__", _operator(f"__{_name}__"))
    setattr(Pieces, f"__r{_name}__", _operator(f"__r{_name}__"))
for _name in ("gt", "ge", "lt", "le", "eq", "ne"):
    setattr(Pieces, f"__{_name}__", _operator(f"__{_name}__"))


class PieceNamespace:
    """A namespace whose functions also take Pieces, and whose `concat` of these sizes returns Pieces."""

    def __init__(self, xp: Namespace, sizes: list[int]) -> None:
        self.xp: Any = xp
        self.sizes = sizes

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.xp, name)
        return partial(self._call, function) if name in _ELEMENTWISE else function

    @staticmethod
    def _call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        in_pieces = any(isinstance(x, Pieces) for x in arguments)
        return _map(function, *arguments, **options) if in_pieces else function(*arguments, **options)

    def concat(self, arrays: list[Any]) -> Any:
        fits = [x.shape for x in arrays] == [(size,) for size in self.sizes]
        return Pieces(list(arrays)) if fits else self.xp.concat(arrays)

    def matmul(self, a: Any, b: Any) -> Any:
        if not isinstance(a, Pieces):
            return self.xp.matmul(a, b)
        return sum(self.xp.matmul(x, y) for x, y in zip(a.parts, b.parts, strict=True))

    def sum(self, x: Any, /, **options: Any) -> Any:
        if not isinstance(x, Pieces):
            return self.xp.sum(x, **options)
        if options:
            raise TypeError("expected a sum over all elements")
        return sum(self.xp.sum(part) for part in x.parts)


class _Noting:
    """A namespace that notes the sizes of the arrays that are joined to a vector of n elements."""

    def __init__(self, xp: Namespace, n: int) -> None:
        self.xp: Any = xp
        self.n, self.sizes = n, [n]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.xp, name)

    def concat(self, arrays: list[Any]) -> Any:
        if all(x.ndim == 1 for x in arrays) and sum(x.shape[0] for x in arrays) == self.n:
            self.sizes = [x.shape[0] for x in arrays]
        return self.xp.concat(arrays)


def find_sizes(step: Callable[..., Any], n: int, xp: Namespace) -> list[int]:
    """Return the sizes of the arrays that step(xp=...) joins to a vector of n elements, the gradient."""
    noting = _Noting(xp, n)
    step(xp=noting)
    return noting.sizes
