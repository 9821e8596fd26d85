"""v1's ``azureml.train.dnn``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.dnn import Chainer, Gloo, Mpi, Nccl, ParameterServer, PyTorch, TensorFlow

__all__ = ["Chainer", "Gloo", "Mpi", "Nccl", "ParameterServer", "PyTorch", "TensorFlow"]
__getattr__ = absent_names(__name__)
