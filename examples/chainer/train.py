"""Train a multilayer perceptron on images of handwritten digits and save it as an .npz file."""

import argparse
import os

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
from chainer.iterators import SerialIterator
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from azureml.core.run import Run

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batchsize", type=int, default=128)
parser.add_argument("--units", type=int, default=64)
parser.add_argument("--output_dir", default="./outputs")
given = parser.parse_args()

run = Run.get_context()
np.random.seed(0)
print(f"Chainer {chainer.__version__}, NumPy {np.__version__}")

images, digits = load_digits(return_X_y=True)
images, digits = (images / 16).astype(np.float32), digits.astype(np.int32)
train_x, test_x, train_y, test_y = train_test_split(images, digits, test_size=0.25, random_state=0)

layers = chainer.Sequential(L.Linear(64, given.units), F.relu, L.Linear(given.units, 10))
model = L.Classifier(layers)
optimizer = chainer.optimizers.Adam(alpha=0.01).setup(model)
batches = SerialIterator(chainer.datasets.TupleDataset(train_x, train_y), given.batchsize)

while batches.epoch < given.epochs:
    optimizer.update(model, *chainer.dataset.concat_examples(batches.next()))
    if batches.is_new_epoch:
        loss = float(model.loss.array)
        with chainer.using_config("train", False), chainer.no_backprop_mode():
            model(test_x, test_y)
        accuracy = float(model.accuracy.array)
        run.log("Loss", loss, step=batches.epoch)
        run.log("Accuracy", accuracy, step=batches.epoch)
        print(f"epoch {batches.epoch}: loss {loss:.4f}, accuracy {accuracy:.4f}")

chainer.serializers.save_npz(os.path.join(given.output_dir, "model.npz"), layers)
