"""A data set as TensorFlow Datasets finds one of a project's own."""
