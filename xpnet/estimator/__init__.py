"""scikit-learn's MLPClassifier and MLPRegressor for arrays of any library, on any device."""

from xpnet.estimator.classifier import MLPClassifier
from xpnet.estimator.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
