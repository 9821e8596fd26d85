"""Train a classifier on scikit-learn's own images of handwritten digits, and keep what came of it."""

import argparse
import os

import joblib
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--hidden", type=int, default=32, help="neurons of the hidden layer")
parser.add_argument("--learning-rate", type=float, default=0.003)
given = parser.parse_args()

run = Run.get_context()
images, digits = load_digits(return_X_y=True)
train_x, test_x, train_y, test_y = train_test_split(images / 16, digits, test_size=0.25, random_state=0)
print(f"{len(train_x)} images to train on, {len(test_x)} to test with")

model = MLPClassifier(hidden_layer_sizes=(given.hidden,), learning_rate_init=given.learning_rate, random_state=0)
for epoch in range(1, given.epochs + 1):
    model.partial_fit(train_x, train_y, classes=range(10))
    accuracy = accuracy_score(test_y, model.predict(test_x))
    run.log("loss", log_loss(train_y, model.predict_proba(train_x)), step=epoch)
    run.log("accuracy", accuracy, step=epoch)
    print(f"epoch {epoch:3d}  loss {model.loss_:.4f}  accuracy {accuracy:.4f}")

run.log("final_accuracy", accuracy)
run.tag("model", f"mlp-{given.hidden}")
joblib.dump(model, os.path.join("outputs", "digits.joblib"))
