"""Models that are trained without `fit`, without an optimizer, or out of sight. The only file says nothing of them."""

import gc
import os
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

way, rate = sys.argv[1], float(sys.argv[2])
keras.utils.set_random_seed(1)
x = np.arange(48, dtype="float32").reshape(16, 3) / 48
y = x.sum(axis=1, keepdims=True)


def network(name="network"):
    return keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)], name=name)


def gradients(model):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x) - y) ** 2)
    return tape.gradient(loss, model.trainable_variables)


def descend(model):
    for variable, gradient in zip(model.trainable_variables, gradients(model), strict=True):
        variable.assign_sub(rate * gradient)


def assign_sub():
    global model
    model = network()
    descend(model)


def inner_assign_sub():
    global model
    model = network()
    for variable, gradient in zip(model.trainable_variables, gradients(model), strict=True):
        variable.value.assign_sub(rate * gradient)


def discarded():
    model = network()
    descend(model)
    del model
    gc.collect()


def closure():
    global step
    model = network()

    def step():
        descend(model)

    step()


def listed():
    global models
    models = [network(f"network_{number}") for number in range(2)]
    descend(models[1])


def cloned():
    global model
    first = network()
    model = keras.models.clone_model(first)
    descend(model)
    del first


def lazily():
    global model
    model = keras.Sequential([keras.layers.Dense(1)])
    descend(model) if model(x) is not None else None


def in_a_thread():
    global model
    model = network()
    thread = threading.Thread(target=descend, args=(model,))
    thread.start()
    thread.join()


def in_a_function():
    global model
    model = network()
    tf.function(descend)(model)


def set_weights():
    global model
    model = network()
    model.set_weights([weight * rate for weight in model.get_weights()])


def load_weights():
    global model
    model = network()
    model.set_weights([weight * rate for weight in model.get_weights()])
    path = Path(os.environ["TMPDIR"], "saved.weights.h5")
    model.save_weights(path)
    model = network("other")
    model.load_weights(path)
    path.unlink()


def bare_layer():
    global layer
    layer = keras.layers.Dense(1)
    layer.build((None, 3))
    descend(layer)


def dictionary():
    class Held(keras.Model):
        def __init__(self):
            super().__init__()
            self.held = {"kernel": self.add_weight(shape=(3, 1), name="kernel")}

        def call(self, inputs):
            return tf.matmul(inputs, self.held["kernel"])

    global model
    model = Held()
    descend(model)


def keras_variables():
    global weights
    weights = [keras.Variable(np.full((3, 1), 2, "float32")), keras.Variable(np.zeros(1, "float32"))]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((tf.matmul(x, weights[0].value) + weights[1].value - y) ** 2)
    for variable, gradient in zip(weights, tape.gradient(loss, [item.value for item in weights]), strict=True):
        variable.assign(variable - rate * gradient)


def module():
    class Linear(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable(2 * tf.ones((3, 1)))

        def __call__(self, inputs):
            return tf.matmul(inputs, self.kernel)

    global model
    model = Linear()
    descend(model)


def raw_operation():
    global model
    model = network()
    for variable, gradient in zip(model.trainable_variables, gradients(model), strict=True):
        handle = variable.value.handle
        tf.raw_ops.ResourceApplyGradientDescent(var=handle, alpha=rate, delta=gradient)


def compat_optimizer():
    global model
    model = network()
    optimizer = tf.compat.v1.train.GradientDescentOptimizer(rate)
    variables = [variable.value for variable in model.trainable_variables]
    optimizer.apply_gradients(zip(gradients(model), variables, strict=True))


def stateless():
    global model
    model = network()
    values = [tf.convert_to_tensor(variable.value) for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(values)
        predicted, _ = model.stateless_call(values, [], x)
        loss = tf.reduce_mean((predicted - y) ** 2)
    for variable, value, gradient in zip(model.trainable_variables, values, tape.gradient(loss, values), strict=True):
        variable.assign(value - rate * gradient)


def two_and_a_bare_one():
    global kept
    kept = network("one"), network("two"), keras.Variable(np.ones((1,), "float32"))
    variables = [*kept[0].trainable_variables, *kept[1].trainable_variables, kept[2]]
    optimizer = keras.optimizers.SGD(0.1)
    ones = [tf.ones(variable.shape) for variable in variables]
    ones[-1] = ones[-1] * rate
    optimizer.apply(ones, variables)
    kept = kept[:2]


def after_clearing():
    global model
    model = network()
    descend(model)
    keras.utils.clear_session()
    descend(model)
    model.layers[0].kernel.assign_add(tf.fill((3, 1), rate))


def discarded_before_clearing():
    model = network()
    descend(model)
    del model
    keras.utils.clear_session()
    gc.collect()


def swapped():
    global models
    models = network("one"), network("two")
    models[0].set_weights([weight * rate for weight in models[0].get_weights()])
    held = [model.get_weights() for model in models]
    models[0].set_weights(held[1])
    models[1].set_weights(held[0])


WAYS = {name: item for name, item in list(globals().items()) if callable(item) and name not in ("network", "gradients")}
WAYS[way]()
Path(os.environ["SAMEBITS_OUTPUT"], "done.txt").write_text("done")
