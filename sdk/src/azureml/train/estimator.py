"""v1's ``azureml.train.estimator``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass._distribution import Gloo, Mpi, Nccl, ParameterServer
from windlass._estimator_base import MMLBaseEstimator, MMLBaseEstimatorRunConfig
from windlass.estimator import Estimator

__all__ = ["Estimator", "Gloo", "MMLBaseEstimator", "MMLBaseEstimatorRunConfig", "Mpi", "Nccl", "ParameterServer"]
__getattr__ = absent_names(__name__)
