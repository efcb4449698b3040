"""
=============================
PyTorch tensors in a Pipeline
=============================

`MLPClassifier` takes PyTorch tensors and returns PyTorch tensors. In a Pipeline, what it gets depends on
the step before it. This example shows what scikit-learn needs to keep tensors, and what happens otherwise.
"""

# sphinx_gallery_thumbnail_number = 1
import os

os.environ["SCIPY_ARRAY_API"] = "1"  # before SciPy and scikit-learn are imported

import matplotlib.pyplot as plt
import sklearn
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from xpnet import MLPClassifier

X, y = (torch.tensor(array) for array in load_digits(return_X_y=True))
X = X.to(torch.float32)  # on a GPU: X.to("cuda", torch.float32), y.to("cuda")
X_train, X_test, y_train, y_test = X[:1400], X[1400:], y[:1400], y[1400:]

# %%
# On its own, the classifier needs no configuration.

model = MLPClassifier(max_iter=30, learning_rate="cosine", random_state=0).fit(X_train, y_train)
print("alone:", type(model.predict(X_test)).__name__)

# %%
# By default the scaler and PCA turn X into NumPy arrays. The classifier follows X: it converts the labels to
# NumPy, too, and its predictions are NumPy arrays.

pipeline = make_pipeline(
    StandardScaler(), PCA(20), MLPClassifier(max_iter=30, learning_rate="cosine", random_state=0)
)
pipeline.fit(X_train, y_train)
print("by default:", type(pipeline.predict(X_test)).__name__)

# %%
# With ``array_api_dispatch`` every step computes in PyTorch, on the device of X. scikit-learn asks for the
# environment variable at the top, which SciPy reads when it is imported.

sklearn.set_config(array_api_dispatch=True)
pipeline.fit(X_train, y_train)
predicted = pipeline.predict(X_test)
print("with array_api_dispatch:", type(predicted).__name__, predicted.device)
print(f"accuracy {pipeline.score(X_test, y_test):.3f}")

# %%
# The first two principal components of the test digits, and the classes that the pipeline predicts.

points = pipeline[:2].transform(X_test)
fig, ax = plt.subplots()
found = ax.scatter(points[:, 0], points[:, 1], c=predicted, s=8, cmap="tab10", vmin=-0.5, vmax=9.5)
fig.colorbar(found, ticks=range(10), label="predicted class")
ax.set(xlabel="first component", ylabel="second component")
plt.show()
