"""The multilayer perceptron: forward pass, loss, and the gradient by backpropagation, derived by hand.

With h₀ = X, layer l computes z_l = h_{l-1} W_l + b_l and h_l = f_l(z_l). The loss takes the last z.
The backward pass (Rumelhart, Hinton and Williams 1986) starts from dz_L, which the loss returns:

    dW_l = h_{l-1}ᵀ dz_l      db_l = Σ_rows dz_l
    dh_{l-1} = dz_l W_lᵀ      dz_{l-1} = dh_{l-1} · f'(z_{l-1})
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Array, Namespace
from xpnet.errors import InputError, choose
from xpnet.maths.initializers import draw
from xpnet.maths.layout import Layout
from xpnet.maths.losses import LOSSES, Loss
from xpnet.maths.ops import ACTIVATIONS, affine, affine_backward

__all__ = ["MLP"]


@dataclass(frozen=True)
class MLP:
    """The architecture and the loss of a multilayer perceptron.

    It does not contain the parameters. Methods take them as a flat vector theta.

    Attributes:
        sizes: number of units in each layer, (inputs, hidden ..., outputs).
        activations: one name for all hidden layers, or a sequence with one name per hidden layer.
        loss: a name in `losses.LOSSES`, or a custom `Loss`.
        l2: strength of the L2 penalty l2/2 · Σ W², which is added to the loss. Biases are not penalized.
        label_smoothing: fraction of each label that is spread evenly over all classes, at least 0 and below
            1. Only for softmax cross-entropy.
        l2_shared: if true, the penalty is divided by the number of rows in the batch, or by the sum of their
            weights, as scikit-learn does with `alpha`.

    Raises:
        InputError: if a name is unknown, a size is below 1, there are fewer than two sizes, the number of
            activations does not match the hidden layers, `l2` is negative or not finite, or
            `label_smoothing` is out of range or does not apply to the loss.
    """

    sizes: tuple[int, ...]
    activations: str | Sequence[str] = "relu"
    loss: str | Loss = "softmax_cross_entropy"
    l2: float = 0.0
    label_smoothing: float = 0.0
    l2_shared: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple(self.sizes))
        for name in ("l2", "label_smoothing"):  # a NumPy number would turn float32 into float64
            object.__setattr__(self, name, float(getattr(self, name)))
        n_hidden = len(self.sizes) - 2
        if n_hidden < 0 or min(self.sizes) < 1:
            raise InputError(
                f"sizes: expected (inputs, hidden ..., outputs), each at least 1, got {self.sizes}"
            )
        names = self.activations
        names = (names,) * n_hidden if isinstance(names, str) else tuple(names)
        for name in [self.activations] if isinstance(self.activations, str) else names:
            choose("activation", name, ACTIVATIONS)
        if len(names) != n_hidden:
            raise InputError(
                f"activations: expected one name, or one for each of the {n_hidden} hidden layers, "
                f"got {len(names)}: {', '.join(names)}"
            )
        object.__setattr__(self, "activations", names)
        if not isinstance(self.loss, Loss):
            choose("loss", self.loss, LOSSES)
        if not 0.0 <= self.l2 < math.inf:
            raise InputError(f"l2: expected a number of at least 0, got {self.l2}")
        if not 0.0 <= self.label_smoothing < 1.0:
            raise InputError(f"label_smoothing: expected at least 0 and below 1, got {self.label_smoothing}")
        if self.label_smoothing and self.loss != "softmax_cross_entropy" and isinstance(self.loss, str):
            raise InputError(f"label_smoothing belongs to softmax_cross_entropy, not to {self.loss}")

    @cached_property
    def layout(self) -> Layout:
        """The position of each weight matrix and bias in theta."""
        return Layout(self.sizes)

    @cached_property
    def criterion(self) -> Loss:
        """The `Loss` that `loss` names."""
        return self.loss if isinstance(self.loss, Loss) else LOSSES[self.loss]

    @property
    def classifies(self) -> bool:
        """Whether the network predicts classes rather than numbers."""
        return self.criterion.classifies

    def init(self, seed: int = 0, initializer: str = "auto") -> NDArray[np.float64]:
        """Return initial parameters theta (n_parameters,), float64 on the host. Biases are 0.

        Args:
            seed: seed of the random number generator.
            initializer: a name that `initializers.draw` accepts. `auto` chooses the initializer of each
                hidden layer by its activation, and `glorot_uniform` for the last layer. With the prefix
                `legacy_` the weights are drawn as after `numpy.random.seed(seed)`.
        """
        legacy = initializer.startswith("legacy_")
        rng = np.random.RandomState(seed) if legacy else np.random.default_rng(seed)
        initializer = initializer.removeprefix("legacy_")
        names = [initializer] * (len(self.sizes) - 1)
        if initializer == "auto":
            names = [*(ACTIVATIONS[name].initializer for name in self.activations), "glorot_uniform"]
        weights = [draw(name, rng, *shape) for name, shape in zip(names, self.layout.shapes, strict=True)]
        return np.concatenate([*(W.ravel() for W in weights), np.zeros(sum(self.sizes[1:]))])

    def forward(self, theta: Array, X: Array, *, xp: Namespace) -> Array:
        """Return z (n, outputs), the last layer's output before its activation, for X (n, inputs)."""
        return self.forward_layers(self.layout.split(theta, xp=xp), X, xp=xp)[-1]

    def predict(self, theta: Array, X: Array, *, xp: Namespace) -> Array:
        """Return the prediction (n, outputs) for X (n, inputs): probabilities or numbers."""
        return self.criterion.predict(self.forward(theta, X, xp=xp), xp=xp)

    def loss_and_grad(
        self, theta: Array, X: Array, Y: Array, weight: Array | None = None, *, xp: Namespace
    ) -> tuple[Array, Array]:
        """Return the loss (0-d) and its gradient with respect to theta, a new flat vector.

        Args:
            theta: (n_parameters,).
            X: (n, inputs).
            Y: (n, outputs), or (n,) class indices for softmax cross-entropy.
            weight: (n, 1) sample weights. The loss is the weighted mean over the rows, or the plain mean if
                None. The mean is 0 if all weights are 0, and not finite if they have both signs and sum to 0.

        Raises:
            InputError: if n is 0.
        """
        share, l2 = self.normalize(weight, X.shape[0], xp=xp)
        return self.sum_loss_and_grad(theta, X, Y, share, l2, xp=xp)

    def normalize(
        self, weight: Array | None, n: int, *, xp: Namespace
    ) -> tuple[Array | float, Array | float]:
        """Return the share of each of n rows in the mean, (n, 1) or a float, and the strength of the penalty.

        Args and errors as in `loss_and_grad`.
        """
        if n == 0:
            raise InputError("X: expected at least 1 row, got 0")
        if weight is None:
            share = 1.0 / n
            return share, self.l2 * share if self.l2_shared else self.l2
        total = xp.sum(weight)
        nothing = xp.astype(xp.sum(xp.abs(weight)) == 0.0, total.dtype)
        some = total + nothing  # 0 and not 0/0 if all weights are 0
        return weight / some, self.l2 * (1.0 - nothing) / some if self.l2_shared else self.l2

    def sum_loss_and_grad(
        self,
        theta: Array,
        X: Array,
        Y: Array,
        share: Array | float,
        l2: Array | float,
        *,
        xp: Namespace,
    ) -> tuple[Array, Array]:
        """Return Σ_rows share · loss_row + l2/2 · Σ W² (0-d) and its gradient, a new flat vector.

        With what `normalize` returns, it is `loss_and_grad`. Over chunks of the rows, with their shares and
        with parts of the penalty, the results add up to it.
        """
        layers = self.layout.split(theta, xp=xp)
        *hs, z = self.forward_layers(layers, X, xp=xp)
        loss, dz = self._compute_loss(z, Y, share, xp)
        if self.l2:
            weights = theta[: self.layout.n_weights]
            loss = loss + 0.5 * l2 * xp.matmul(weights, weights)

        weight_grads, bias_grads = [], []
        for i in range(len(layers) - 1, -1, -1):
            W = layers[i][0]
            dW, db, dh = affine_backward(hs[i], W, dz, xp=xp, need_dh=i > 0)
            if self.l2:
                dW += l2 * W
            weight_grads.append(dW)
            bias_grads.append(db)
            if dh is not None:
                dz = ACTIVATIONS[self.activations[i - 1]].backward(hs[i], dh, xp=xp)
        return loss, self.layout.join(weight_grads[::-1], bias_grads[::-1], xp=xp)

    def forward_layers(
        self, layers: Sequence[tuple[Array, Array]], X: Array, *, xp: Namespace
    ) -> list[Array]:
        """Return [X, h₁, ..., h_{L-1}, z_L], given (W, b) of every layer."""
        outputs = [X]
        forwards: list[Callable[..., Array]] = [ACTIVATIONS[name].forward for name in self.activations]
        for (W, b), forward in zip(layers[:-1], forwards, strict=True):
            outputs.append(forward(affine(outputs[-1], W, b, xp=xp), xp=xp))
        return [*outputs, affine(outputs[-1], *layers[-1], xp=xp)]

    def _compute_loss(self, z: Array, Y: Array, share: Array | float, xp: Namespace) -> tuple[Array, Array]:
        loss_and_grad = self.criterion.loss_and_grad
        if self.label_smoothing:
            return loss_and_grad(z, Y, share, xp=xp, label_smoothing=self.label_smoothing)
        return loss_and_grad(z, Y, share, xp=xp)
