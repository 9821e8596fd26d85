"""A network in the style of TensorFlow 1: placeholders, a session, a saver; on images that it draws itself."""

import argparse
import os

import numpy as np
import tensorflow as tf

from azureml.core.run import Run

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--learning-rate", type=float, default=0.2)
args = parser.parse_args()


def draw(count, seed, size=12):
    """Noisy images with a horizontal bar (class 0), a vertical bar (1) or a cross (2)."""
    rng = np.random.RandomState(seed)
    images, labels = rng.normal(0, 0.3, (count, size, size)), rng.randint(0, 3, count)
    for image, label in zip(images, labels):  # noqa: B905 Python 3.7 has no strict=
        if label != 1:
            image[rng.randint(size)] += 1
        if label != 0:
            image[:, rng.randint(size)] += 1
    return images.reshape(count, -1).astype(np.float32), labels.astype(np.int64)


run = Run.get_context()
tf.set_random_seed(1)
train_x, train_y = draw(6000, seed=1)
test_x, test_y = draw(1000, seed=2)
print("TensorFlow", tf.__version__)

x = tf.placeholder(tf.float32, [None, train_x.shape[1]], name="x")
y = tf.placeholder(tf.int64, [None], name="y")
hidden = tf.layers.dense(x, 64, activation=tf.nn.relu, name="hidden")
logits = tf.layers.dense(hidden, 3, name="logits")
loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
accuracy = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1), y), tf.float32))
train = tf.train.GradientDescentOptimizer(args.learning_rate).minimize(loss)
saver = tf.train.Saver()

rng = np.random.RandomState(0)
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    for step in range(args.steps):
        batch = rng.randint(0, len(train_x), args.batch_size)
        _, now = session.run([train, loss], feed_dict={x: train_x[batch], y: train_y[batch]})
        if step % 30 == 0:
            run.log("loss", now)
            print("step", step, "loss", now)
    final = session.run(accuracy, feed_dict={x: test_x, y: test_y})
    run.log("final_acc", final)
    os.makedirs("./outputs/model", exist_ok=True)
    saver.save(session, "./outputs/model/bars.ckpt")
