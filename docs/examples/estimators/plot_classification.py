"""
===========================
Classify handwritten digits
===========================

`MLPClassifier` is used like scikit-learn's. This example trains it on 8x8 pictures of digits, with a part
of the rows for validation, and looks at its mistakes.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from xpnet import MLPClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=0.2, stratify=y, random_state=0)

# %%
# With ``early_stopping`` the fit holds out a tenth of the rows, scores them after each epoch, and keeps the
# parameters of the best epoch. The learning rate falls along a cosine to 0. scikit-learn does not have that
# schedule.

model = MLPClassifier(
    hidden_layer_sizes=(100,),
    learning_rate="cosine",
    learning_rate_init=0.005,
    max_iter=50,
    early_stopping=True,
    n_iter_no_change=50,
    random_state=0,
)
model.fit(X_train, y_train)

# %%
# Unlike in scikit-learn, the validation loss is recorded as well.

fig, (left, right) = plt.subplots(1, 2)
left.plot(model.loss_curve_, label="training")
left.plot(model.validation_loss_curve_, label="validation")
left.set(xlabel="epoch", ylabel="loss", yscale="log")
left.legend()
right.plot(model.validation_scores_, color="C1")
right.set(xlabel="epoch", ylabel="validation accuracy")
plt.show()

# %%
# The test digits that it gets wrong are hard to read for a person, too.

predicted = model.predict(X_test)
wrong = (predicted != y_test).nonzero()[0]
print(f"{len(wrong)} of {len(y_test)} test digits are wrong: accuracy {model.score(X_test, y_test):.3f}")

fig, axes = plt.subplots(1, 5, figsize=(6.4, 1.8))
for ax, i in zip(axes, wrong, strict=False):
    ax.imshow(X_test[i].reshape(8, 8), cmap="gray_r")
    ax.set_title(f"predicted {predicted[i]},\ntrue class {y_test[i]}", fontsize=9)
for ax in axes:
    ax.set_axis_off()
plt.show()
