"""
========================================
JAX, PyTorch and NumPy: the same numbers
========================================

The mathematics of xpnet is written once. With the same ``random_state`` the initial parameters and the
batches are equal on each array library, and so are the losses, up to rounding.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits

from xpnet import MLPClassifier

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)

# %%
# The arrays decide which library computes. JAX compiles the training step.

libraries = {"NumPy": np.asarray, "PyTorch": torch.asarray, "JAX": jax.numpy.asarray}
models = {}
for name, asarray in libraries.items():
    model = MLPClassifier(50, learning_rate="cosine", learning_rate_init=0.01, max_iter=30, random_state=0)
    models[name] = model.fit(asarray(X), asarray(y))
    print(f"{name}: {type(model.coefs_[0]).__name__}, last loss {model.loss_:.6f}")

# %%
# Left, the three curves coincide. Right, they differ by the rounding of float32.

fig, (left, right) = plt.subplots(1, 2)
reference = np.array(models["NumPy"].loss_curve_)
for name, model, style in zip(models, models.values(), ("-", "--", ":"), strict=True):
    curve = np.array(model.loss_curve_)
    left.plot(curve, style, lw=2, label=name)
    if name != "NumPy":
        right.plot(np.abs(curve - reference) / reference, label=name)
left.set(xlabel="epoch", ylabel="loss", yscale="log")
right.set(xlabel="epoch", ylabel="relative difference to NumPy", yscale="log", ylim=(1e-9, 1))
left.legend()
right.legend()
plt.show()

# %%
# A model that was fitted in one library answers in the library that it is asked in.

print(repr(models["JAX"].predict(torch.asarray(X[:5]))))
