"""Shared code of the MobileNet v1 int8 workbook: the notebooks ask, call and show; this package does the work."""

import os

# TensorFlow reads this when it is imported; below level 2 it fills the notebooks with start-up messages.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
