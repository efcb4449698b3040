"""
====================
Classify iris
====================

x
"""

from sklearn.datasets import load_iris

from xpnet import MLPClassifier

X, y = load_iris(return_X_y=True)
MLPClassifier(max_iter=30).fit(X, y)
