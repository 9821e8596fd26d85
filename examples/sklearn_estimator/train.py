"""Fit a classifier of our own to measurements of wine that lie in a datastore."""

import argparse
import os
import shutil

import joblib
import nearest_mean
import numpy as np
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--data-folder", help="a datastore that holds wine/wine.csv")
parser.add_argument("--regularization", type=float, default=0.1)
given = parser.parse_args()

run = Run.get_context()
table = np.loadtxt(os.path.join(given.data_folder, "wine", "wine.csv"), delimiter=",", skiprows=1)
x, y = table[:, :-1], table[:, -1].astype(int)
model = make_pipeline(StandardScaler(), nearest_mean.NearestMean(given.regularization))

scores = cross_val_score(model, x, y, cv=5)
run.log_list("fold_accuracy", list(scores))
run.log("accuracy", scores.mean())
print(f"{len(x)} wines, accuracy in 5 folds: {np.round(scores, 3)}")

folder = os.path.join("outputs", "wine")
os.makedirs(folder)
joblib.dump(model.fit(x, y), os.path.join(folder, "model.joblib"))
shutil.copy(nearest_mean.__file__, folder)  # a model of one's own needs its code to be loaded again
