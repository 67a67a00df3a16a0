"""TensorFlow and Keras, imported once and without their start-up messages: import both from here."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def native_output_silenced() -> Iterator[None]:
    """Keeps what native code writes to standard output and error from the terminal and from notebooks.

    Native code writes to the file descriptors, past `sys.stdout`. What it wrote is shown after all if the block raises.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    with tempfile.TemporaryFile() as log:
        try:
            for descriptor in (1, 2):
                os.dup2(log.fileno(), descriptor)
            yield
        except BaseException:
            log.seek(0)
            os.write(saved[1], log.read())
            raise
        finally:
            for descriptor, original in zip((1, 2), saved, strict=True):
                os.dup2(original, descriptor)
                os.close(original)


with native_output_silenced():
    # Keras takes TensorFlow as its backend unless told otherwise, and the converter needs that one.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    tf.config.list_physical_devices()
    tf.get_logger().setLevel("ERROR")

__all__ = ["convert_variables_to_constants_v2", "keras", "native_output_silenced", "tf"]
