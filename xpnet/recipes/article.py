"""The figures an article prints beside those of a run of its recipe."""

from typing import Any

import numpy as np

from xpnet._typing import Array
from xpnet.backend import Backend
from xpnet.evaluation import evaluate, predict
from xpnet.mlp import MLP
from xpnet.recipes import Recipe

__all__ = ["compare", "measure"]


def measure(mlp: MLP, theta: Array, X: Array, Y: Array, *, backend: Backend) -> dict[str, float]:
    """Return what the articles print for rows X (n, inputs) and one-hot Y (n, classes).

    `cost` is theirs: -mean(Y log(p + 1e-8)) over all n · classes entries, for ten classes a tenth of the
    cross-entropy. `accuracy` is in percent, `cross_entropy` the plain mean over rows.
    """
    p, targets = predict(mlp, theta, X, backend=backend), backend.to_numpy(Y)
    if mlp.classifies and targets.shape[1] == 1:  # one logistic output stands for two classes
        targets = np.hstack([1.0 - targets, targets])
    plain = evaluate(mlp, theta, X, Y, backend=backend)
    cost = -np.mean(targets * np.log(p + 1e-8))
    return {"cost": float(cost), "accuracy": 100 * plain.score, "cross_entropy": plain.loss}


def compare(recipe: Recipe, lines: list[dict[str, float]], metrics: dict[str, Any]) -> tuple[str, bool]:
    """Return a table "article / here" with a sentence on where they differ, and whether they agree.

    Args:
        lines: `measure` of each step that the article prints, with its `step`.
        metrics: of the finished run.
    """
    text, differences = [f'The article: "{recipe.title}"', *recipe.note.splitlines(), ""], []
    if recipe.printed is not None:
        d = recipe.printed.decimals
        c, a = max(d + 6, 11), max(d + 8, 13)  # as wide as the headings, at least
        row = f"{{:>6}}  {{:>{c}}}{{:>{c}}}  {{:>{a}}}{{:>{a}}}  {{:>14}}"
        text += [
            row.format("", "cost", "cost", "accuracy, %", "accuracy, %", "cross-entropy"),
            row.format("step", "article", "here", "article", "here", "here"),
        ]
        for i, (cost, accuracy) in enumerate(recipe.printed.lines):
            step, ours = i * recipe.printed.every, ["-"] * 3
            if i < len(lines):
                ours = [f"{lines[i][name]:.{d}f}" for name in ("cost", "accuracy", "cross_entropy")]
            theirs = [f"{cost:.{d}f}", f"{accuracy:.{d}f}"]
            text.append(row.format(step, theirs[0], ours[0], theirs[1], ours[1], ours[2]))
            if ours[:2] != theirs:
                differences.append(f"step {step}")
        text.append("")
    for name, expected in recipe.expected.items():
        figure = metrics.get(name)
        here = "-" if figure is None else f"{figure:.6g}"
        text.append(f"{name.replace('_', ' '):<20}article {expected.article:<10.6g}here {here}")
        if figure is None:
            differences.append(f"there is no {name.replace('_', ' ')} here")
        elif not expected.agrees(figure):
            differences.append(f"{name.replace('_', ' ')} is {figure:.6g}, expected {expected}")
    verdict = "They differ: " + "; ".join(differences) + "." if differences else "They agree."
    return "\n".join([*text, verdict]), not differences
