"""
===============================
Train on a GPU, if there is one
===============================

``device="cuda"`` takes arrays from host memory, computes on the GPU and returns the predictions to the
host. ``device="auto"`` does so where there is a usable GPU, and computes on the CPU elsewhere. This page
was built on the device that it names below.
"""

import time

import matplotlib.pyplot as plt
import numpy as np

from xpnet import MLPRegressor, resolve

backend = resolve("auto")  # what the estimator chooses
print(f"{backend.name} on {backend.hardware or backend.device_name}")

# %%
# The target is the product of two of 20 columns. The wider the network, the more a GPU gains.

rng = np.random.default_rng(0)
X = rng.standard_normal((5000, 20)).astype(np.float32)
y = X[:, 0] * X[:, 1]

widths, speeds = (16, 64, 256), []
for width in widths:
    model = MLPRegressor(
        hidden_layer_sizes=(width, width), learning_rate="cosine", max_iter=5, random_state=0, device="auto"
    )
    model.fit(X, y)  # the first fit also records, captures or compiles the step
    start = time.perf_counter()
    model.fit(X, y)
    speeds.append(model.t_ / (time.perf_counter() - start))
    print(f"{width} units: {speeds[-1]:,.0f} rows per second")

# %%
# Real times of the machine that built this page.

fig, ax = plt.subplots()
ax.bar([f"20-{width}-{width}-1" for width in widths], np.array(speeds) / 1e6)
ax.set(xlabel="network", ylabel="million rows per second", title=f"{backend.name} on {backend.device_name}")
plt.show()

# %%
# Arrays that are already on a GPU need no ``device``: they are computed on where they lie. `to_device
# <xpnet.MLPClassifier.to_device>` moves a fitted model.

model.to_device("cpu").predict(X[:3])
