"""The ONNX operators, each described as tensor expressions. Importing the package fills the table of operators."""

from . import (  # noqa: F401
    activation,
    control,
    conv,
    elementwise,
    indexing,
    matmul,
    movement,
    normalization,
    pool,
    quantization,
    recurrent,
    reduction,
    refused,
    resize,
    shape,
)
