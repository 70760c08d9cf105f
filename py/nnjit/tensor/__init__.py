"""Tensor expressions: the language in which operators are written, and all that is left of a model's operators.

tensor       Source, Compute, Parts, View, Alias: a tensor is elements that exist, or a formula of their coordinates
build        Builder: makes them, and settles what needs no memory (transposes, slices, reshapes)
env          Env: symbols, the values at hand, and the guards that follow from decisions about them
interpret    what the elements are, by numpy: the meaning that everything after it is tested against
"""
