"""
=========================
Regression with quantiles
=========================

A regression with squared error predicts the mean. With ``loss="quantile"``, `MLPRegressor` predicts a
quantile of y for each X. Two of them are a prediction interval, which is wide where the data scatter
widely.
"""

import matplotlib.pyplot as plt
import numpy as np

from xpnet import MLPRegressor

rng = np.random.default_rng(0)
X = rng.uniform(0, 6, (1000, 1))
y = np.sin(X[:, 0]) + rng.normal(0, 0.05 + 0.1 * X[:, 0])

# %%
# One network for each quantile: 5 %, the median, and 95 %.

grid = np.linspace(0, 6, 200).reshape(-1, 1)
quantiles = {}
for q in (0.05, 0.5, 0.95):
    model = MLPRegressor(
        "quantile",
        (30, 30),
        "tanh",
        quantile=q,
        learning_rate="cosine",
        learning_rate_init=0.01,
        max_iter=150,
        tol=0,
        random_state=0,
    )
    quantiles[q] = model.fit(X, y).predict(grid)
    print(f"quantile {q}: {(y < model.predict(X)).mean():.3f} of the rows lie below")

# %%
# The interval contains 90 % of the points, everywhere.

fig, ax = plt.subplots()
ax.scatter(X, y, s=4, color="0.6")
ax.fill_between(
    grid[:, 0], quantiles[0.05], quantiles[0.95], alpha=0.25, color="C0", label="5 % to 95 % quantile"
)
ax.plot(grid, quantiles[0.5], color="C0", label="median")
ax.plot(grid, np.sin(grid), "--", color="C1", label="true median")
ax.set(xlabel="X", ylabel="y")
ax.legend(loc="lower left")
plt.show()
