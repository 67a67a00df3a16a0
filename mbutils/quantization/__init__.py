"""From a trained Keras model to an int8 TensorFlow Lite model, and what the conversion costs where."""

from mbutils.quantization.analysis import accuracy_by_calibration, channel_ranges, rounded_kernel, signal_to_noise
from mbutils.quantization.aware import FakeQuantized, fake_quantize, fine_tune, soft_targets
from mbutils.quantization.bias import correct_biases
from mbutils.quantization.convert import describe, to_int8, to_int8_uncalibrated, to_int8_with_ranges
from mbutils.quantization.equalization import equalize
from mbutils.quantization.folding import fold
from mbutils.quantization.steps import accuracy_by_step, prepare
