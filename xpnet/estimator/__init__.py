"""scikit-learn's MLPClassifier and MLPRegressor, computed where the arrays live."""

from xpnet.estimator.classifier import MLPClassifier
from xpnet.estimator.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
