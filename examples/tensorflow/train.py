"""Train a network with two hidden layers on MNIST-format files and export it as a SavedModel."""

import argparse
import gzip
import os
import struct

import numpy as np
import tensorflow as tf

from azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--data-folder", help="where the four files lie, at any depth")
parser.add_argument("--batch-size", type=int, default=50)
parser.add_argument("--first-layer-neurons", type=int, default=100)
parser.add_argument("--second-layer-neurons", type=int, default=50)
parser.add_argument("--learning-rate", type=float, default=0.01)
given = parser.parse_args()


def load(name):
    """The array in an IDX file of bytes."""
    place = next(os.path.join(d, name) for d, _, files in os.walk(given.data_folder) if name in files)
    with gzip.open(place) as f:
        dimensions = f.read(4)[3]
        shape = struct.unpack(f">{dimensions}I", f.read(4 * dimensions))
        return np.frombuffer(f.read(), np.uint8).reshape(shape)


class LogToRun(tf.keras.callbacks.Callback):
    """Log what Keras measures after each epoch."""

    def on_epoch_end(self, epoch, logs):
        for name, value in logs.items():
            run.log(name, value, step=epoch)


run = Run.get_context()
tf.keras.utils.set_random_seed(0)
train_x, test_x = load("train-images.gz") / 255, load("test-images.gz") / 255
train_y, test_y = load("train-labels.gz"), load("test-labels.gz")
print(f"TensorFlow {tf.__version__}: {len(train_x)} images to train on, {len(test_x)} to test with")

model = tf.keras.Sequential([
    tf.keras.Input(train_x.shape[1:]),
    tf.keras.layers.Flatten(),
    tf.keras.layers.Dense(given.first_layer_neurons, activation="relu"),
    tf.keras.layers.Dense(given.second_layer_neurons, activation="relu"),
    tf.keras.layers.Dense(10, activation="softmax"),
])  # fmt: skip
optimizer = tf.keras.optimizers.SGD(given.learning_rate, momentum=0.9)
model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(
    train_x, train_y, batch_size=given.batch_size, epochs=15, verbose=2,
    validation_data=(test_x, test_y), callbacks=[LogToRun()],
)  # fmt: skip
run.log("final_acc", history.history["val_accuracy"][-1])
model.export(os.path.join("outputs", "model"))
