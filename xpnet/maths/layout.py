"""The position of each weight matrix and bias in the flat parameter vector theta.

theta holds first all weights W₁ ... W_L, each (fan_in, fan_out) in row-major order, then all biases
b₁ ... b_L. The L2 penalty, which excludes the biases, therefore applies to one contiguous prefix.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

from xpnet._typing import Array, Namespace

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """The parameter layout of a network with `sizes` = (inputs, hidden ..., outputs) units."""

    sizes: tuple[int, ...]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(fan_in, fan_out) of every layer."""
        return list(pairwise(self.sizes))

    @cached_property
    def n_weights(self) -> int:
        """Length of the prefix of theta that holds the weights."""
        return sum(fan_in * fan_out for fan_in, fan_out in self.shapes)

    @property
    def n_parameters(self) -> int:
        """Length of theta."""
        return self.n_weights + sum(self.sizes[1:])

    @cached_property
    def _places(self) -> list[tuple[slice, tuple[int, int], slice]]:
        weight_ends = list(accumulate(i * o for i, o in self.shapes))
        bias_ends = list(accumulate(self.sizes[1:], initial=self.n_weights))
        return [
            (slice(end - shape[0] * shape[1], end), shape, slice(*bias))
            for end, shape, bias in zip(weight_ends, self.shapes, pairwise(bias_ends), strict=True)
        ]

    def split(self, theta: Array, *, xp: Namespace) -> list[tuple[Array, Array]]:
        """Return (W, b) of every layer. They may be views of theta: do not write to them."""
        return [(xp.reshape(theta[w], shape), theta[b]) for w, shape, b in self._places]

    def join(self, weights: list[Array], biases: list[Array], *, xp: Namespace) -> Array:
        """Return theta for these weights and biases. The inverse of `split`."""
        return xp.concat([*(xp.reshape(W, (-1,)) for W in weights), *biases])
