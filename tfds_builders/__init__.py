"""TFDS builders of the data sets that jaxvsr trains on and is scored by."""
