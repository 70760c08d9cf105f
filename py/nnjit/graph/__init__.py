"""The graph of operators that a model is, before any of them is lowered."""
