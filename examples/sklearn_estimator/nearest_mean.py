"""A classifier of one's own, with scikit-learn's interface."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class NearestMean(ClassifierMixin, BaseEstimator):
    """Give each sample the class whose mean is nearest, distances taken with a regularized covariance."""

    def __init__(self, regularization=0.1):
        self.regularization = regularization

    def fit(self, x, y):
        """Learn the classes' means and what they have in common of spread."""
        self.classes_, members = np.unique(y, return_inverse=True)
        self.means_ = np.array([x[members == i].mean(axis=0) for i in range(len(self.classes_))])
        spread = np.cov((x - self.means_[members]).T)
        identity = np.eye(len(spread)) * np.trace(spread) / len(spread)
        self.precision_ = np.linalg.inv((1 - self.regularization) * spread + self.regularization * identity)
        return self

    def predict(self, x):
        """The class of each row."""
        away = x[:, None, :] - self.means_[None]
        return self.classes_[np.einsum("nki,ij,nkj->nk", away, self.precision_, away).argmin(axis=1)]
