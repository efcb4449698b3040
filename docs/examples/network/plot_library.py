"""
===================================
A training loop with early stopping
===================================

`epochs <xpnet.epochs>` is a generator that trains for an epoch each time it is asked. Validation and early
stopping are generators around it.
"""

from functools import partial

import matplotlib.pyplot as plt

from xpnet import MLP, AdamW, epochs, evaluate, load, plots, resolve, schedules
from xpnet.data.batches import hold_out, one_hot
from xpnet.training import keep_best, restore_best, start, stop_early, validate

backend = resolve("cpu")
data = load("digits")
kept, held = hold_out(data.y_train, 0.2, seed=0)
X, Y = data.scaling(data.X_train), one_hot(data.y_train, 10).astype("float32")
X_train, Y_train, X_val, Y_val = (backend.asarray(array) for array in (X[kept], Y[kept], X[held], Y[held]))

# %%
# The network, the optimizer and the schedule are plain objects and functions. What changes is in ``state``.

mlp = MLP((64, 100, 10), "relu")
optimizer = AdamW(weight_decay=0.01)
state = start(mlp.init(seed=0), optimizer, backend=backend)
records = epochs(
    mlp,
    optimizer,
    state,
    X_train,
    Y_train,
    backend=backend,
    schedule=partial(schedules.warm_up, schedule=lambda t: 0.005, steps=100),
    n_epochs=100,
    batch_size=32,
)
records = validate(records, state, lambda: evaluate(mlp, state.theta, X_val, Y_val, backend=backend))
records = keep_best(records, state, backend=backend)
history = [record.to_dict() for record in stop_early(records, state, patience=8)]
best = state.best.epoch
restore_best(state)
print(f"stopped after {len(history)} epochs, epoch {best} was the best")

# %%
# `curves <xpnet.plots.curves>` draws the records, with a star at the epoch that was kept.

fig, ax = plt.subplots()
plots.curves(history, kept=best, ax=ax)
plt.show()
