"""
==============================
Class weights for rare classes
==============================

Where one class is rare, the most accurate classifier ignores it. ``class_weight="balanced"`` gives each
class the same total weight. scikit-learn's MLP has no class weights.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.metrics import balanced_accuracy_score, recall_score

from xpnet import MLPClassifier

rng = np.random.default_rng(0)
X = np.concatenate([rng.normal(0, 1.0, (950, 2)), rng.normal(1.5, 0.8, (50, 2))])
y = np.repeat([0, 1], [950, 50])

# %%
# The same network with and without weights. A dict works as well: ``class_weight={1: 19}``.

fig, axes = plt.subplots(1, 2, sharex=True, sharey=True)
for ax, class_weight in zip(axes, (None, "balanced"), strict=True):
    model = MLPClassifier(
        20, "tanh", solver="lbfgs", alpha=1.0, class_weight=class_weight, max_iter=500, random_state=0
    )
    predicted = model.fit(X, y).predict(X)
    print(
        f"class_weight={class_weight!r}: recall of the rare class "
        f"{recall_score(y, predicted):.2f}, balanced accuracy {balanced_accuracy_score(y, predicted):.2f}"
    )
    DecisionBoundaryDisplay.from_estimator(
        model, X, response_method="predict", alpha=0.3, ax=ax, cmap="coolwarm"
    )
    ax.scatter(*X.T, c=y, s=5, cmap="coolwarm")
    ax.set(title=f"class_weight={class_weight!r}", xlabel="", ylabel="")
plt.show()

# %%
# The fitted model, with all its parameters. A click on the name of a parameter leads to its description.

model
