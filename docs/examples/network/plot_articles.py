"""
=================================
The networks of the five articles
=================================

xpnet grew from five articles that build a network from scratch. Each is a recipe of the command line, which
trains on MNIST and ends with a table "article / here" (:doc:`/recipes`). This example runs the recipes on
scikit-learn's small digits instead, which need no download.
"""

import io
import json
import tempfile
from contextlib import redirect_stderr
from pathlib import Path

import matplotlib.pyplot as plt

from xpnet.command.cli import main
from xpnet.command.recipes import load_recipe, recipe_names

folder = Path(tempfile.mkdtemp())

# %%
# The same as ``xpnet train --recipe NAME --data digits --epochs 100`` on the command line. An option
# overrides what the recipe says. Full-batch gradient descent takes one step per epoch and is slow to start.
# Small batches take many steps, and Adam scales each of them.

fig, ax = plt.subplots(figsize=(6.4, 4))
for name in recipe_names():
    if name == "mnist-fast":  # it is from no article
        continue
    recipe = load_recipe(name)
    options = f"--recipe {name} --data digits --test 0.2 --epochs 100 --quiet --out {folder / name}"
    with redirect_stderr(io.StringIO()):  # says where the results differ from the article's, on MNIST
        main(["train", *options.split()])
    history = [json.loads(line) for line in (folder / name / "history.jsonl").read_text().splitlines()]
    ax.plot([record["train_accuracy"] for record in history], label=name)

    network = "-".join(map(str, (64, *recipe.options["hidden"], 10)))
    test = json.loads((folder / name / "metrics.json").read_text())["test_accuracy"]
    print(f"{name:18} {network:12} {recipe.options['activation'][0]:9} test accuracy {test:.3f}")

ax.set(xlabel="epoch", ylabel="training accuracy")
ax.legend(title="recipe", loc="lower right")
plt.show()
