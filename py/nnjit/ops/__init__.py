"""The ONNX operators, each described as tensor expressions."""
