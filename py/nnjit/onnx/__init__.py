"""From the bytes of an ONNX model to a `Graph`: `reader.read_model`.

    sniff, protobuf     whether it is a model at all; fields of messages, read where they lie, weights skipped over
    reader              the messages of a model: graph, nodes, attributes
    tensors, external   tensors, small ones as arrays, weights as a `Location` in the model's file or beside it
    values, constants   what is declared of values; `Constant` nodes and attributes that are tensors
    functions           calls of the model's own functions become their nodes

Afterwards no protobuf is left, initializers are apart from inputs, and `graph.verify` has put the nodes in order. What opsets
mean by an operator stays open: that is decided where it becomes tensor expressions (`ops.registry`). Raises ModelFormatError,
UnsupportedError and ExternalDataError.
"""
