"""Runs one .tflite model in a process of its own: started by `isolated`, it imports nothing else of this project.

A message is JSON, or the bytes of an array that the JSON before it describes. Signals end the process where LiteRT
crashes or takes too long, and the end of the connection ends it with the process that asks.
"""

import contextlib
import json
import resource
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType


def main(descriptor: int, seconds: int, memory_bytes: int) -> None:
    """Opens the model that comes first, then runs the images of each request, until the connection ends.

    Args:
        descriptor: The file descriptor of the connection.
        seconds: What opening the model, and each image, may take.
        memory_bytes: The address space that the process may take.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no file
    connection = Connection(descriptor)
    try:
        options, content = _received(connection), connection.recv_bytes()
        signal.alarm(seconds)
        interpreter = Interpreter(
            model_content=content,
            experimental_op_resolver_type=OpResolverType[options["kernels"]],
            experimental_preserve_all_tensors=options["keeps_tensors"],
        )
        _describe(interpreter, connection)
        while True:
            signal.alarm(0)
            _answer(interpreter, connection, seconds)
    except EOFError:
        return
    except Exception as error:  # whatever LiteRT raises: its message is told to who asked
        _send(connection, {"error": str(error) or type(error).__name__})


def _describe(interpreter: Interpreter, connection: Connection) -> None:
    """Sends inputs and outputs, and all scales of the model."""
    scales = [tensor["quantization_parameters"]["scales"] for tensor in interpreter.get_tensor_details()]
    found = {"inputs": interpreter.get_input_details(), "outputs": interpreter.get_output_details()}
    _send(connection, {name: [_facts(tensor) for tensor in tensors] for name, tensors in found.items()})
    connection.send_bytes(np.concatenate([np.empty(0, np.float32), *scales]).astype(np.float32).tobytes())


def _facts(tensor: dict[str, Any]) -> dict[str, Any]:
    return {
        "index": tensor["index"],
        "shape": tensor["shape"].tolist(),
        "dtype": np.dtype(tensor["dtype"]).name,
        "quantization": tensor["quantization"],
    }


def _answer(interpreter: Interpreter, connection: Connection, seconds: int) -> None:
    """Runs the images of a request one by one, and sends the tensors that it names after each."""
    request = _received(connection)
    inputs = np.frombuffer(connection.recv_bytes(), request["dtype"]).reshape(request["shape"])
    signal.alarm(seconds)
    (details,) = interpreter.get_input_details()
    if details["shape"].tolist() != [1, *inputs.shape[1:]]:
        interpreter.resize_tensor_input(details["index"], (1, *inputs.shape[1:]))
    interpreter.allocate_tensors()
    for image in inputs:
        signal.alarm(seconds)
        interpreter.set_tensor(details["index"], image[None])
        interpreter.invoke()
        tensors = [interpreter.get_tensor(index) for index in request["tensors"]]
        _send(connection, {"tensors": [(tensor.dtype.str, tensor.shape) for tensor in tensors]})
        for tensor in tensors:
            connection.send_bytes(tensor.tobytes())


def _received(connection: Connection) -> dict[str, Any]:
    return json.loads(connection.recv_bytes())


def _send(connection: Connection, message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        connection.send_bytes(json.dumps(message).encode())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
