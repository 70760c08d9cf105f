"""The ONNX operators, each described as tensor expressions. Importing the package fills the table of operators.

    registry, refused        the table; what a definition is given (`Context`); operators that are refused, and why
    trace, demand            Graph → tensor expressions; which values' elements must be known at compile time
    content, narrow          known elements, for shape arithmetic; elements of less than a byte
    the others               definitions, by what they have in common; where domains other than ONNX's share one, it says so

A definition is all that an operator needs. What comes after it (fusion, schedules, both emitters, tuning) sees
formulas and index maps, never an operator's name.

Adding an operator: a walk through one, Trilu (shape.py)
--------------------------------------------------------

1. *Where?* In the module of its kind; a new module is imported below. The head says from which opset on a
   definition serves, of which domain: `@operator("Trilu", since=14)`. Where a later opset changes what the operator
   means, another registration of the same name follows.
2. *What is it given?* `ctx`, the node, and its inputs as tensors; those that may be left out are None by default,
   and a wrong number of inputs is refused before it is called. Attributes: `ctx.attr_int("upper", 1)`,
   `attr_float`, `attr_ints`, …
3. *Check what ONNX demands*, in sentences: `raise ctx.malformed(…)` for what it does not allow,
   `ctx.unsupported(…)` for what is allowed but not done; `ctx.axis` checks and normalises an axis. Dimensions are
   ints or symbols: compare them by `ctx.env.eq` and `ge`, never by `==` and `>=`, so that what was decided becomes
   a guard of the plan.
4. *Say what an element is.* `ctx.b` (tensor/build.py) has `elementwise`, `compute`, `reduce`, `concat`, and views
   that move no memory:

       def element(*c):
           inside = ir.binary("ge" if upper else "le", ir.index(c[-1]), ir.index(c[-2] + diagonal))
           return ir.select(inside, x.at(*c), zero)

       return ctx.b.compute(x.shape, x.dtype, element, "trilu")

   `x.at` gives the element in the dtype that is computed in (`ir.COMPUTE_OF`). A recipe of several tensors is as
   good as one formula: fusion puts them together. Name the source of a formula that is not obvious in the
   docstring.
5. *Do shapes depend on it?* Where its results may be sizes (exporters compute shapes with Gather, Concat, Slice,
   Mul, …), let `ctx.fold` compute them from known elements. Where an *input's* elements must be known, as Trilu's
   diagonal must (`ctx.ints(k, "diagonal")`), name its position in `demand.py`; what is not known then is refused
   when the model is loaded.
6. *Is it right?* The node cases of the `onnx` package run by themselves, traced
   (tests/unit/test_ops_conformance.py) and as emitted Wasm: take the operator off the list of what is not
   implemented. What they leave out goes into tests/unit/test_ops_*.py, in a line: `agrees_with_onnxruntime("Trilu",
   [x, k], [1], traced_at=…)` compares every output with onnxruntime's at sizes other than those that were traced.
   Odd sizes, empty axes, NaN, negative axes and each attribute's values are worth one.
7. *Is it fast?* `python build.py bench` on a model that has it; the page and `model.report()` show which kernels it
   became.
"""

from . import (  # noqa: F401
    activation,
    arithmetic,
    attention,
    attention_microsoft,
    blockwise,
    cast,
    control,
    conv,
    elementwise,
    fold,
    fourier,
    fused,
    grid_sample,
    group_query,
    indexing,
    matmul,
    movement,
    normalization,
    pool,
    qlinear,
    quantization,
    quantized,
    recurrent,
    recurrent_quantized,
    reduction,
    refused,
    resize,
    rotary,
    scatter,
    sequence,
    shape,
)
