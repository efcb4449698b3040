"""
==============================================
Search parameters with GridSearchCV and Optuna
==============================================

The parameters of an `MLPClassifier` are searched like those of any estimator of scikit-learn: on a grid
with GridSearchCV, or with Optuna, which tries next what has been promising so far.
"""

import matplotlib.pyplot as plt
import optuna
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score

from xpnet import MLPClassifier

X, y = load_digits(return_X_y=True)
X, y = X[:600] / 16, y[:600]
model = MLPClassifier(learning_rate="cosine", max_iter=15, random_state=0)

# %%
# A grid of 3 x 3, in three folds each. ``learning_rate="cosine"`` ends after ``max_iter`` epochs, so there
# is no warning that the fit has not converged.

grid = {"hidden_layer_sizes": [25, 50, 100], "learning_rate_init": [0.001, 0.01, 0.1]}
search = GridSearchCV(model, grid, cv=3).fit(X, y)
print(f"grid: {search.best_score_:.3f} with {search.best_params_}")
results = pd.DataFrame(search.cv_results_)
results.pivot_table(
    values="mean_test_score", index="param_hidden_layer_sizes", columns="param_learning_rate_init"
).round(3)

# %%
# Optuna draws the rate from a continuous range and may use more than one layer.

optuna.logging.set_verbosity(optuna.logging.WARNING)


def objective(trial: optuna.Trial) -> float:
    layers = [trial.suggest_int(f"layer {i}", 20, 150) for i in range(trial.suggest_int("layers", 1, 2))]
    rate = trial.suggest_float("learning rate", 1e-4, 1e-1, log=True)
    candidate = MLPClassifier(
        layers, learning_rate="cosine", learning_rate_init=rate, max_iter=15, random_state=0
    )
    return cross_val_score(candidate, X, y, cv=3).mean()


study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(objective, n_trials=20)
print(f"Optuna: {study.best_value:.3f} with {study.best_params}")

# %%
# The learning rate matters most.

fig, ax = plt.subplots()
ax.scatter(results["param_learning_rate_init"], results["mean_test_score"], marker="s", label="GridSearchCV")
ax.scatter(
    [trial.params["learning rate"] for trial in study.trials],
    [trial.value for trial in study.trials],
    label="Optuna",
)
ax.set(xscale="log", xlabel="learning_rate_init", ylabel="accuracy in cross-validation")
ax.legend()
plt.show()
