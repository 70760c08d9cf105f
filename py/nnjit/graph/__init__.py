"""The graph of operators that a model is, before any of them is lowered: plain data.

graph     Graph, Node, Initializer, Location, ValueInfo
dtype     names of element types, and what numpy holds them in
verify    every value is made once, every value that is read is made, nodes are in order; `onnx.reader` calls it
"""
