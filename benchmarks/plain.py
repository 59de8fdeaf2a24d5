"""Run a script under samebits's settings, and nothing else: `python plain.py THREADS SCRIPT ARGUMENTS…`."""

import runpy
import sys

import keras
import tensorflow as tf

threads = int(sys.argv[1])
tf.config.experimental.enable_op_determinism()
tf.config.threading.set_intra_op_parallelism_threads(threads)
tf.config.threading.set_inter_op_parallelism_threads(threads)
# As samebits fixes the order of sums.
tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
keras.utils.set_random_seed(0)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
