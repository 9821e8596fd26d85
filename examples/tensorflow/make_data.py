"""scikit-learn's images of digits as the four files that MNIST comes in."""

import gzip
import os
import struct

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def write_digits(folder):
    """Write ``{train,test}-{images,labels}.gz`` into ``folder``: IDX files of 8 x 8 images, a byte per pixel."""
    os.makedirs(folder, exist_ok=True)
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split((images * 255 / 16).astype("uint8"), labels.astype("uint8"), random_state=0)
    for name, part in zip(("train-images", "test-images", "train-labels", "test-labels"), parts, strict=True):
        shape = (len(part), 8, 8) if name.endswith("images") else (len(part),)
        with gzip.open(os.path.join(folder, name + ".gz"), "wb") as f:
            f.write(struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape))
            f.write(part.tobytes())
