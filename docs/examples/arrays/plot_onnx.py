"""
==================================
Export to ONNX and to scikit-learn
==================================

A fitted model is written to an ONNX file, which runs without xpnet, without scikit-learn and without
Python: in onnxruntime, in a browser, on a phone.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
from sklearn.datasets import load_digits

from xpnet import MLPClassifier

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
model = MLPClassifier(activation="elu", learning_rate="cosine", max_iter=40, random_state=0)
model.fit(X[:1500], names[y[:1500]])

# %%
# All activations and losses can be written. Writing needs the package ``onnx``, and running only a runtime.

path = Path(tempfile.mkdtemp()) / "digits.onnx"
model.to_onnx(path)
print(f"{path.name}: {path.stat().st_size / 1024:.0f} KB")

# %%
# The graph takes rows and returns labels and probabilities. On the command line ``xpnet export RUN --to
# onnx`` writes a run, with the scaling of its data in the graph.

session = onnxruntime.InferenceSession(path)
labels, probabilities = session.run(["label", "probabilities"], {"X": X[1500:]})
difference = np.abs(probabilities - model.predict_proba(X[1500:])).max()
print("labels are equal:", (labels == model.predict(X[1500:])).all())
print(f"largest difference of a probability: {difference:.0e}")

# %%
# What onnxruntime predicts for four test digits, of which the first two are hard.

confidence = probabilities.max(axis=1)
shown = [*np.argsort(confidence)[:2], *np.argsort(confidence)[-2:]]
fig, axes = plt.subplots(2, 4, figsize=(6.4, 3.2), height_ratios=(2, 1))
for (above, below), i in zip(axes.T, shown, strict=True):
    above.imshow(X[1500 + i].reshape(8, 8), cmap="gray_r")
    above.set_title(labels[i])
    above.set_axis_off()
    below.bar(model.classes_, probabilities[i])
    below.set(ylim=(0, 1), xticks=[], yticks=[0, 1])
plt.show()

# %%
# Tools that know scikit-learn but not xpnet take its own MLPClassifier, with the same weights.
# ``to_sklearn`` raises an error where scikit-learn lacks the activation, such as elu.

simple = MLPClassifier(max_iter=40, learning_rate="cosine", random_state=0).fit(X[:1500], y[:1500])
converted = simple.to_sklearn()
print(type(converted).__module__, (converted.predict(X[1500:]) == simple.predict(X[1500:])).mean())
