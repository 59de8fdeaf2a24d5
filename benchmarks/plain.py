"""Run a script under the same settings as samebits makes, and nothing else: `python plain.py SCRIPT ARGUMENTS…`."""

import runpy
import sys

import keras
import tensorflow as tf

tf.config.experimental.enable_op_determinism()
tf.config.threading.set_intra_op_parallelism_threads(2)
tf.config.threading.set_inter_op_parallelism_threads(2)
keras.utils.set_random_seed(0)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
