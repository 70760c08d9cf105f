"""The ONNX operators, each described as tensor expressions. Importing the package fills the table of operators."""

from . import (  # noqa: F401
    activation,
    attention,
    control,
    conv,
    elementwise,
    grid_sample,
    indexing,
    matmul,
    movement,
    normalization,
    pool,
    quantization,
    quantized,
    recurrent,
    reduction,
    refused,
    resize,
    sequence,
    shape,
)
