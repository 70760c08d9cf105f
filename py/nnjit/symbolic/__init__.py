"""Integer expressions over named variables: dimensions, buffer sizes, element indices, guards.

A dimension is a Python `int` or an `IntExpr`, a polynomial whose atoms are variables, and floor divisions, remainders,
minima, maxima and values that a kernel loads at run time. Arithmetic on two ints gives an int, and an `IntExpr` that turns
out constant is returned as an int as well.

    expression     the polynomials, + − ×, what they depend on, and their JSON
    bounds         the range of an expression, given the ranges of its variables
    division       ⌊a / b⌋, a mod b, min and max, simplified as far as bounds allow
    substitution   expressions or numbers in the place of variables
"""

from .bounds import NO_BOUNDS, SIGNED, Bounds, bounds_of
from .division import ceildiv, floordiv, maximum, minimum, mod, product, recombine
from .expression import (
    IntExpr,
    Opaque,
    atoms,
    forget_opaques,
    names_of,
    opaque,
    terms_of,
    to_json,
    values_of,
    var,
    variables,
)
from .substitution import Substitution, evaluate, substitute

__all__ = [
    "NO_BOUNDS",
    "SIGNED",
    "Bounds",
    "IntExpr",
    "Opaque",
    "Substitution",
    "atoms",
    "bounds_of",
    "ceildiv",
    "evaluate",
    "floordiv",
    "forget_opaques",
    "maximum",
    "minimum",
    "mod",
    "names_of",
    "opaque",
    "product",
    "recombine",
    "substitute",
    "terms_of",
    "to_json",
    "values_of",
    "var",
    "variables",
]
