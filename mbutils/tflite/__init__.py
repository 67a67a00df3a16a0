"""The only reader of .tflite files: graph, quantization, interpreter."""
