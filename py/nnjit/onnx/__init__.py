"""From the bytes of an ONNX model to a `Graph`."""
