"""A training step that is seen once, and from then on repeated on the very same arrays."""

from collections.abc import Callable
from functools import partial
from typing import Any

from xpnet._typing import Namespace

__all__ = ["Replay"]


class Replay:
    """`step` as `Backend.compile_step` describes it, for libraries that write in place.

    Args:
        fix: (step, state, data, index, coefficients, *, xp) -> (the arrays of the state after a step, the
            step: a function without arguments that takes it with these very arrays). The coefficients are
            0-d arrays. If it raises an exception, the plain step is taken.
    """

    def __init__(self, step: Callable[..., Any], xp: Namespace, fix: Callable[..., Any]) -> None:
        self.step, self.xp, self.fix = step, xp, fix
        self.fixed: dict[Any, Callable[..., Any]] = {}

    def __call__(self, state: Any, data: Any, index: Any, coefficients: tuple[float, ...]) -> Any:
        key = tuple(map(id, data)), None if index is None else index.shape
        if key not in self.fixed:
            try:
                self.fixed[key] = _Fixed(self, state, data, index, len(coefficients))
            except Exception:  # whatever it is, the plain step can do it, or fails in words
                self.fixed[key] = partial(self.step, xp=self.xp)
        return self.fixed[key](state, data, index, coefficients)


class _Fixed:
    """The step for these data and as many rows of them, with the arrays that it works on."""

    def __init__(self, of: Replay, state: Any, data: Any, index: Any, n_coefficients: int) -> None:
        xp: Any = of.xp
        self.xp = xp
        theta, moments, total = state
        total = xp.asarray(total)  # NumPy makes a number of a 0-d array at every turn
        self.data = data
        self.index = None if index is None else xp.asarray(index, copy=True)
        self.coefficients = tuple(xp.zeros_like(total) for _ in range(n_coefficients))
        self.state = theta, *moments, total
        self.result, self.again = of.fix(
            of.step, (theta, moments, total), data, self.index, self.coefficients, xp=xp
        )

    def __call__(self, state: Any, data: Any, index: Any, coefficients: tuple[float, ...]) -> Any:
        theta, moments, total = state
        foreign = [
            (ours, self.xp.asarray(given, copy=True))  # it may be another one of ours
            for ours, given in zip(self.state, (theta, *moments, total), strict=True)
            if given is not ours
        ]
        for ours, copy in foreign:
            ours[...] = copy
        if self.index is not None:
            self.index[...] = index
        for place, number in zip(self.coefficients, coefficients, strict=True):
            place[...] = number
        self.again()
        return self.result
