"""Read variables one by one and at once; print what differs, and the fast digest as computed and as defined."""

import json

import keras
import tensorflow as tf
import xxhash

from samebits.core.jsonio import canonical_json
from samebits.runner.compat.tensorflow_private import read_together
from samebits.runner.digests import tensors

types = ["float16", "bfloat16", "float64", "int8", "bool", "complex64"]
single = [tf.Variable(tf.cast(tf.range(6), name), name=name) for name in types]
single += [
    tf.Variable(["a", "bc"], name="words"),
    tf.Variable(tf.zeros((0, 3)), name="empty"),
    tf.Variable(1.5, name="one"),
]
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dropout(0.5)])
model.compile("adam", "mse")
model.fit(tf.ones((8, 3)), tf.ones((8, 4)), verbose=0)
with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
    mirrored = tf.Variable([1.0, 2.0], name="mirrored")
variables = [*model.variables, *model.optimizer.variables, *single]

together = read_together(
    [
        getattr(variable, "value", variable) if isinstance(variable, keras.Variable) else variable
        for variable in variables
    ]
)
alone = [tensors.values_of(variable) for variable in variables]
wrong = [
    variable.name
    for variable, one, other in zip(variables, together, alone, strict=True)
    if tensors.tensor_digest(one) != tensors.tensor_digest(other)
    or (one.dtype, one.shape) != (other.dtype, other.shape)
]
# The values that were read stay as they were when the variable changes.
kept = tensors.values_of(single[2])
single[2].assign_add(tf.ones(6, "float64"))
wrong += ["changed"] if kept[0] != 0 else []

state = xxhash.xxh3_128()
for item in tensors.named_variables([*variables, mirrored]):
    state.update(canonical_json(item.about))
    state.update(tensors.raw_bytes(item.array))
digests = [tensors.locating_digest([*variables, mirrored]) for _ in range(2)]
found = {"wrong": wrong, "expected": f"xxh3-128:{state.hexdigest()}", "digests": digests, "number": len(variables)}
print(json.dumps(found))
