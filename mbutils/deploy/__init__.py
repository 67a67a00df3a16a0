"""From an int8 .tflite to C99 sources that any compiler takes, checked against the LiteRT reference kernels."""
