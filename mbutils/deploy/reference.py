"""What the LiteRT reference kernels say of images: what the C code must give bit for bit."""

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from mbutils.progress import progress


def reference_outputs(tflite: bytes, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs a classifier with the reference kernels, not with XNNPACK.

    Args:
        tflite: A model that `read_network` takes.
        images: uint8, shape (n, height, width, channels).

    Returns:
        The outputs before the softmax, int8, and the scores, float32; both of shape (n, n_classes).
    """
    interpreter = Interpreter(
        model_content=tflite,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    (given,), (scores,) = interpreter.get_input_details(), interpreter.get_output_details()
    softmax = next(op for op in interpreter._get_ops_details() if op["op_name"] == "SOFTMAX")
    collected = []
    with progress(len(images), "reference kernels", "image") as bar:
        for image in images:
            pixels = image if given["dtype"] == np.uint8 else (image.astype(np.int16) - 128).astype(np.int8)
            interpreter.set_tensor(given["index"], pixels[None])
            interpreter.invoke()
            logits = interpreter.get_tensor(softmax["inputs"][0]).ravel()
            output = interpreter.get_tensor(scores["index"]).ravel()
            if output.dtype == np.int8:
                output = (output.astype(np.float32) + 128) / 256
            collected.append((logits, output))
            bar.update()
    return np.array([logits for logits, _ in collected]), np.array([output for _, output in collected])
