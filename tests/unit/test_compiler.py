"""compile_model: ONNX models become plans that are right at every size their guards admit."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import onnx
import onnx.helper as h
import onnx.numpy_helper as nh
import onnx.reference
import pytest
from unit.plan_interpreter import RELAXED, WASM, WEBGPU, Machine, evaluate_json
from unit.test_fuse import close

from nnjit.compiler import CompiledPlan, InputSpec, compile_model, static_inputs
from nnjit.onnx.reader import read_model
from nnjit.symbolic import evaluate
from nnjit.target import Target
from nnjit.tensor.env import Env

RNG = np.random.default_rng(5)
NAMES = {"float32": "f32", "int64": "i64"}
TARGETS = pytest.mark.parametrize("target", [WASM, RELAXED, WEBGPU], ids=["wasm", "relaxed", "webgpu"])
WIDTH, HEADS = 36, 3


def normal(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)


class Net:
    """An ONNX model under construction; `node` returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, op: str, *inputs: str, **attrs: object) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(h.make_node(op, inputs, [name], name=name, **attrs))
        return name

    def weight(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(nh.from_array(array, name))
        return name

    def ints(self, *values: int) -> str:
        return self.weight(np.array(values, np.int64))

    def model(self, inputs: dict[str, tuple[int, Sequence]], outputs: Sequence[str]) -> bytes:
        graph = h.make_graph(
            self.nodes,
            "net",
            [h.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [h.make_tensor_value_info(name, 1, None) for name in outputs],
            self.weights,
        )
        model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
        return model.SerializeToString()


def encoder(layers: int = 2) -> bytes:
    """A small transformer encoder with symbolic batch and length."""
    n = Net()
    x = n.node("Gather", n.weight(normal(20, WIDTH)), "ids")
    split = n.ints(0, 0, HEADS, WIDTH // HEADS)
    for _ in range(layers):
        q, k, v = (
            n.node("Reshape", n.node("Add", n.node("MatMul", x, n.weight(normal(WIDTH, WIDTH))), n.weight(normal(WIDTH))), split)
            for _ in range(3)
        )  # fmt: skip
        q, v = (n.node("Transpose", t, perm=[0, 2, 1, 3]) for t in (q, v))
        scores = n.node("MatMul", q, n.node("Transpose", k, perm=[0, 2, 3, 1]))
        mixed = n.node(
            "MatMul", n.node("Softmax", n.node("Mul", scores, n.weight(np.float32(0.3))), axis=-1), v
        )
        joined = n.node("Reshape", n.node("Transpose", mixed, perm=[0, 2, 1, 3]), n.ints(0, 0, WIDTH))
        x = n.node("Add", x, n.node("MatMul", joined, n.weight(normal(WIDTH, WIDTH))))
        x = n.node("LayerNormalization", x, n.weight(normal(WIDTH)), n.weight(normal(WIDTH)), axis=-1)
        inner = n.node("Relu", n.node("MatMul", x, n.weight(normal(WIDTH, 2 * WIDTH))))
        x = n.node("Add", x, n.node("MatMul", inner, n.weight(normal(2 * WIDTH, WIDTH))))
    return n.model({"ids": (onnx.TensorProto.INT64, ["batch", "length"])}, [x])


def convolutions() -> bytes:
    """Convolutions, batch normalisation, pooling, concatenation."""
    n = Net()

    def conv(x: str, channels: int, filters: int, size: int, **attrs: object) -> str:
        y = n.node("Conv", x, n.weight(normal(filters, channels, size, size)), pads=[size // 2] * 4, **attrs)
        scale = (n.weight(np.abs(normal(filters)) + 0.5) for _ in range(4))
        return n.node("Relu", n.node("BatchNormalization", y, *scale))

    a = conv("x", 3, 8, 3, strides=[2, 2])
    b = n.node("Concat", conv(a, 8, 6, 1), n.node("MaxPool", a, kernel_shape=[3, 3], pads=[1] * 4), axis=1)
    y = n.node("Flatten", n.node("GlobalAveragePool", conv(b, 14, 14, 3)))
    y = n.node("Softmax", n.node("Gemm", y, n.weight(normal(14, 5)), n.weight(normal(5))))
    return n.model({"x": (onnx.TensorProto.FLOAT, ["batch", 3, "height", "width"])}, [y])


def specs(inputs: dict[str, np.ndarray]) -> dict[str, InputSpec]:
    return {
        name: InputSpec(
            NAMES[str(a.dtype)], a.shape, int(a.flat[0]) if a.size == 1 and a.dtype.kind == "i" else None
        )
        for name, a in inputs.items()
    }


def compiled(model: bytes, inputs: dict[str, np.ndarray], target: Target = WASM) -> CompiledPlan:
    return compile_model(read_model(model), specs(inputs), target)


def machine(model: bytes, inputs: dict[str, np.ndarray], target: Target = WASM) -> Machine:
    return Machine(compiled(model, inputs, target), lambda s: model[s["offset"] : s["offset"] + s["length"]])


def reference(model: bytes, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    return onnx.reference.ReferenceEvaluator(model).run(None, inputs)  # type: ignore[return-value]


def ids(batch: int, length: int) -> dict[str, np.ndarray]:
    return {"ids": RNG.integers(0, 20, (batch, length))}


def image(batch: int, height: int, width: int) -> dict[str, np.ndarray]:
    return {"x": RNG.standard_normal((batch, 3, height, width)).astype(np.float32)}


@TARGETS
def test_an_encoder_compiled_at_one_length_is_right_at_others(target: Target) -> None:
    model = encoder(1)
    m = machine(model, ids(2, 9), target)
    for shape in ((2, 8), (3, 13)):
        inputs = ids(*shape)
        close(m.run(inputs)[0], reference(model, inputs)[0])


@TARGETS
def test_convolutions_compiled_at_one_size_are_right_at_others(target: Target) -> None:
    model = convolutions()
    m = machine(model, image(1, 12, 10), target)
    fitting = [x for x in (image(1, 12, 10), image(1, 9, 11), image(1, 8, 6)) if m.fits(x) is not None]
    assert len(fitting) >= 2
    for inputs in fitting:
        close(m.run(inputs)[0], reference(model, inputs)[0])


def test_a_plan_refuses_inputs_that_its_guards_exclude() -> None:
    m = machine(encoder(1), ids(2, 9))
    assert m.fits(ids(2, 30)) is not None
    assert m.fits(ids(1, 9)) is None
    assert m.fits(ids(2, 1)) is None


def test_one_and_zero_are_built_in_and_other_sizes_are_symbols() -> None:
    plan = json.loads(compiled(encoder(1), ids(1, 9)).json)
    assert [s["from"] for s in plan["symbols"]] == [["dim", "ids", 0], ["dim", "ids", 1]]
    assert plan["inputs"][0]["shape"] == [1, "s1"]
    assert ["eq", "s0", 1] in plan["guards"]


def test_a_product_over_an_axis_without_elements_is_empty() -> None:
    n = Net()
    y = n.node("MatMul", "x", n.node("Transpose", "x", perm=[1, 0]))
    model = n.model({"x": (onnx.TensorProto.FLOAT, ["n", 4])}, [y])
    x = np.zeros((0, 4), np.float32)
    (product,) = machine(model, {"x": x}).run({"x": x})
    assert product.shape == (0, 0)


def test_equal_layers_share_kernels_and_tasks() -> None:
    two, six = (compiled(encoder(n), ids(2, 9)) for n in (2, 6))
    assert len(json.loads(six.json)["kernels"]) == len(json.loads(two.json)["kernels"])
    assert len({u.task for u in six.units}) == len({u.task for u in two.units})
    assert len(six.units) > len(two.units)


def affine_layers(numbers: Sequence[tuple[float, float]]) -> bytes:
    """Depth-wise convolutions and elementwise layers, each with a scale and an offset of one element."""
    n = Net()
    x = "x"
    for scale, offset in numbers:
        x = n.node("Conv", x, n.weight(normal(8, 1, 3, 3)), pads=[1] * 4, group=8)
        x = n.node("Add", n.node("Mul", x, n.weight(np.float32(scale))), n.weight(np.float32([offset])))
        x = n.node("Mul", x, n.node("Clip", x, n.weight(np.float32(-3)), n.weight(np.float32(3))))
    return n.model({"x": (onnx.TensorProto.FLOAT, ["batch", 8, "height", "width"])}, [x])


@TARGETS
def test_layers_that_differ_in_numbers_share_kernels_and_tasks(target: Target) -> None:
    numbers = [(1.5, -0.25), (0.1, 3.0), (3.0, 3.0), (-0.7, -3.0), (0.3, 0.5)]
    inputs = {"x": RNG.standard_normal((1, 8, 9, 10)).astype(np.float32)}
    model = affine_layers(numbers)
    m = machine(model, inputs, target)
    # The first and the last layer have neighbours of their own.
    few = json.loads(compiled(affine_layers([*numbers[:2], *numbers[3:]]), inputs, target).json)
    assert len(m.plan["kernels"]) == len(few["kernels"])
    assert {u["task"] for u in m.plan["units"]} == {u["task"] for u in few["units"]}
    (got,), (want,) = m.run(inputs), reference(model, inputs)
    close(got, want)


def test_nodes_of_the_same_known_operands_differ_by_their_attributes() -> None:
    n = Net()
    table, second = n.weight(np.array([[2, 3], [6, 2]])), n.weight(np.array(1))
    shapes = [n.node("Gather", table, second, axis=axis) for axis in (0, 1, 0)]
    outputs = [n.node("Reshape", "x" if k != 1 else "y", s) for k, s in enumerate(shapes)]
    sizes = {"x": (onnx.TensorProto.FLOAT, ["a"]), "y": (onnx.TensorProto.FLOAT, ["b"])}
    model = n.model(sizes, outputs)
    inputs = {"x": np.arange(12, dtype=np.float32), "y": np.arange(6, dtype=np.float32)}
    got = machine(model, inputs).run(inputs)
    assert [y.shape for y in got] == [(6, 2), (3, 2), (6, 2)]


def undone(x: np.ndarray, scale: float, zero: int, dtype: type = np.uint8) -> np.ndarray:
    """x quantised and dequantised; NaN becomes the least, as in onnxruntime."""
    limits = np.iinfo(dtype)
    whole = np.clip(np.rint(x / np.float32(scale)) + zero, limits.min, limits.max)
    return (np.where(np.isnan(x), limits.min, whole) - zero).astype(np.float32) * np.float32(scale)


def quantisation(n: Net, x: str, scale: float, zero: int, dtype: type = np.uint8) -> str:
    """The nodes that do what `undone` does."""
    parameters = n.weight(np.float32(scale)), n.weight(np.array(zero, dtype))
    return n.node("DequantizeLinear", n.node("QuantizeLinear", x, *parameters), *parameters)


@TARGETS
def test_weights_of_other_sizes_are_prepared_by_one_kernel(target: Target) -> None:
    inputs = {"x": RNG.standard_normal((5, 12)).astype(np.float32)}
    weights = [normal(12, width) for width in (20, 33, 28, 41)]

    def layers(count: int) -> bytes:
        n = Net()
        outputs = [
            n.node("MatMul", "x", quantisation(n, n.weight(w), 0.01 + 0.003 * number, 120 + number))
            for number, w in enumerate(weights[:count])
        ]
        return n.model({"x": (onnx.TensorProto.FLOAT, ["rows", 12])}, outputs)

    def preparing(count: int) -> int:
        units = compiled(layers(count), inputs, target).units
        return len({step.kernel for u in units if u.op == "quantize" for step in u.init})

    assert preparing(4) == preparing(2) > 0
    for number, got in enumerate(machine(layers(4), inputs, target).run(inputs)):
        close(got, inputs["x"] @ undone(weights[number], 0.01 + 0.003 * number, 120 + number))


@TARGETS
def test_parts_of_a_weight_that_differ_in_their_place_are_other_content(target: Target) -> None:
    n = Net()
    whole, axis = n.weight(normal(90, 12)), n.ints(0)
    parts = [n.node("Slice", whole, n.ints(at), n.ints(at + 25), axis) for at in (0, 20, 51)]
    outputs = [
        n.node("Gemm", "x", n.node("Sqrt", n.node("Abs", part)), n.weight(np.float32(0)), transB=1)
        for part in parts
    ]
    model = n.model({"x": (onnx.TensorProto.FLOAT, ["rows", 12])}, outputs)
    inputs = {"x": RNG.standard_normal((5, 12)).astype(np.float32)}
    m = machine(model, inputs, target)
    made = [b["key"] for b in m.plan["buffers"] if b["kind"] == "persistent"]
    assert len(made) == len(set(made)) >= len(parts)
    for got, want in zip(m.run(inputs), reference(model, inputs), strict=True):
        close(got, want)


@TARGETS
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_a_quantisation_that_is_undone_at_once_limits_and_rounds(target: Target, dtype: type) -> None:
    x = (RNG.standard_normal((3, 37)) * 9).astype(np.float32)
    x[0, :4] = np.nan, np.inf, -np.inf, 0.125
    n = Net()
    y = quantisation(n, "x", 0.05, 7, dtype)
    (got,) = machine(n.model({"x": (onnx.TensorProto.FLOAT, x.shape)}, [y]), {"x": x}, target).run({"x": x})
    np.testing.assert_array_equal(got, undone(x, 0.05, 7, dtype))


def pyramid(levels: int) -> bytes:
    """Each level half as large as the one before, and the sum of a convolution and its input as output."""
    n = Net()
    x, outputs = "x", []
    for _ in range(levels):
        x = n.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        y = n.node("Conv", x, n.weight(normal(8, 8, 3, 3)), pads=[1] * 4)
        outputs.append(n.node("Add", n.node("Relu", y), x))
    return n.model({"x": (onnx.TensorProto.FLOAT, [1, 8, "height", "width"])}, outputs)


@TARGETS
def test_levels_of_a_pyramid_have_equal_kernels(target: Target) -> None:
    def picture(height: int, width: int) -> dict[str, np.ndarray]:
        return {"x": RNG.standard_normal((1, 8, height, width)).astype(np.float32)}

    model, at_hand = pyramid(3), picture(70, 96)
    m = machine(model, at_hand, target)
    # Whatever schedules suit their sizes.
    pooled, *others = (
        {str(item.spec) for item in m.compiled.items if item.op == op} for op in ("max_pool", "conv", "pad")
    )
    assert len(pooled) == 1
    assert all(len(texts) <= 1 for texts in others)
    for inputs in (at_hand, picture(85, 129)):
        for got, want in zip(m.run(inputs), reference(model, inputs), strict=True):
            close(got, want)


def test_numbers_that_all_layers_have_in_common_stay_constants() -> None:
    inputs = {"x": RNG.standard_normal((1, 8, 9, 10)).astype(np.float32)}
    for offset, elements in ((-0.25, [1, 1]), (0.5, [2, 2])):
        layers = [(1.5, -0.25), (1.5, -0.25), (2.5, offset), (1.5, -0.25)]
        plan = json.loads(compiled(affine_layers(layers), inputs).json)
        constants = [b["elements"] for b in plan["buffers"] if b["kind"] == "const"]
        assert [n for n in constants if n < 8 * 3 * 3] == elements


def test_an_encoder_layer_takes_few_kernels() -> None:
    """Three projections, scores, softmax, mix, output, norm, two of the feed-forward; the embedding comes once."""
    one, two = (len(json.loads(compiled(encoder(n), ids(2, 9)).json)["units"]) for n in (1, 2))
    assert two - one <= 11


def test_what_depends_on_weights_alone_runs_in_init_only() -> None:
    plan = json.loads(compiled(convolutions(), image(1, 12, 10)).json)
    kinds = {b["id"]: b["kind"] for b in plan["buffers"]}
    fixed = {"weight", "const", "persistent"}
    for unit in plan["units"]:
        for step in unit["init"]:
            assert {kinds[name] for name, _ in step["buffers"]} <= fixed
            assert all(isinstance(value, int) for value in step["symbols"])
        for step in unit["steps"]:
            access = plan["kernels"][step["kernel"]]["buffers"]
            assert any(
                kinds[name] in ("temp", "output") and a["access"] != "r"
                for (name, _), a in zip(step["buffers"], access, strict=True)
            )


@pytest.mark.parametrize("widths", [(48, 80, 144, 64), (37, 141, 157, 125)], ids=["whole tiles", "tails"])
@TARGETS
def test_operands_of_many_sizes_are_packed_by_one_kernel(target: Target, widths: tuple[int, ...]) -> None:
    net = Net()
    x = "x"
    for rows, columns in zip(widths, widths[1:], strict=False):
        x = net.node("Gemm", x, net.weight(normal(columns, rows)), transB=1)
    model = net.model({"x": (1, ["n", widths[0]])}, [x])
    inputs = {"x": normal(20, widths[0])}
    m = machine(model, inputs, target)
    packing = [step["kernel"] for unit in m.plan["units"] for step in unit["init"]]
    assert len(set(packing)) < len(packing) == len(widths) - 1 or (target.device == "webgpu" and not packing)
    (got,), (want,) = m.run(inputs), reference(model, inputs)
    close(got, want)


def test_plans_of_one_model_share_what_stays() -> None:
    model = encoder()
    keys = []
    for shape in ((2, 9), (2, 64)):
        buffers = json.loads(compiled(model, ids(*shape)).json)["buffers"]
        keys.append({b["key"] for b in buffers if b["kind"] in ("weight", "const")})
        assert all("key" in b for b in buffers if b["kind"] in ("weight", "const", "persistent"))
    assert keys[0] == keys[1]


def test_equal_keys_mean_equal_content() -> None:
    m = machine(encoder(), ids(2, 9))
    by_key: dict[str, bytes] = {}
    for name, array in m.fixed.items():
        assert by_key.setdefault(m.specs[name]["key"], array.tobytes()) == array.tobytes()


def test_a_plan_is_the_same_each_time() -> None:
    model = encoder(1)
    first, second = (compiled(model, ids(2, 9)) for _ in range(2))
    assert first.json == second.json and first.blobs == second.blobs


def test_the_same_value_may_be_two_outputs_and_an_input_may_be_one() -> None:
    n = Net()
    y = n.node("Relu", "x")
    same = n.node("Identity", y)
    through = n.node("Identity", "x")
    model = n.model({"x": (onnx.TensorProto.FLOAT, [2, 3])}, [y, same, through])
    inputs = {"x": normal(2, 3)}
    for actual, expected in zip(machine(model, inputs).run(inputs), reference(model, inputs), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_static_inputs_are_known_only_where_every_dimension_is() -> None:
    n = Net()
    model = n.model({"x": (onnx.TensorProto.FLOAT, [2, 3])}, [n.node("Relu", "x")])
    assert static_inputs(read_model(model)) == {"x": InputSpec("f32", (2, 3), None)}
    assert static_inputs(read_model(encoder(1))) is None


# Guards


def test_a_decision_is_guarded_only_where_it_could_turn_out_otherwise() -> None:
    env = Env()
    n = env.dimension("n", ("dim", "x", 0), 7)
    known = len(env.guards())
    assert env.ge(n, 2) and not env.eq(n, 1) and env.eq(n + 1, 1 + n)
    assert len(env.guards()) == known
    assert env.ge(n, 7) and not env.ge(n, 8) and not env.eq(n, 6)
    assert env.guards()[known:] == [["ge", "s0", 7], ["ge", 7, "s0"], ["ne", "s0", 6]]


def test_fixing_a_size_binds_the_plan_to_it() -> None:
    env = Env()
    n = env.dimension("n", ("dim", "x", 0), 7)
    assert env.fix(n * 2) == 14
    assert ["eq", ["mul", "s0", 2], 14] in env.guards()


def test_a_value_may_be_negative() -> None:
    env = Env()
    v = env.value("offset", -3)
    assert not env.ge(v, 0) and evaluate(v, env.hints) == -3


@TARGETS
@pytest.mark.parametrize("batch, rows, depth", [(0, 0, 2), (3, 0, 2), (0, 5, 2), (3, 5, 0)])
def test_products_of_nothing(batch: int, rows: int, depth: int, target: Target) -> None:
    n = Net()
    y = n.node("Relu", n.node("MatMul", "x", n.weight(normal(max(depth, 1), 6)[:depth])))
    model = n.model({"x": (onnx.TensorProto.FLOAT, [batch, 4, rows, depth])}, [y])
    x = np.ones((batch, 4, rows, depth), np.float32)
    (value,) = machine(model, {"x": x}, target).run({"x": x})
    np.testing.assert_array_equal(value, np.zeros((batch, 4, rows, 6), np.float32))


def test_of_a_table_the_bytes_that_move_are_those_of_the_rows_taken() -> None:
    net = Net()
    table = net.weight(normal(1000, 64))
    rows = net.node("Gather", table, "ids", axis=0)
    model = net.model({"ids": (7, ["n"])}, [rows])
    plan = json.loads(compiled(model, {"ids": np.arange(5)}).json)
    (step,) = (step for unit in plan["units"] for step in unit["steps"])
    (symbol,) = (one["name"] for one in plan["symbols"])
    assert evaluate_json(step["read"], {symbol: 5}) == 5 * 8 + 5 * 64 * 4
    assert evaluate_json(step["written"], {symbol: 5}) == 5 * 64 * 4
    # With more rows than the table has, it is read once.
    assert evaluate_json(step["read"], {symbol: 5000}) == 5000 * 8 + 1000 * 64 * 4
    assert evaluate_json(step["written"], {symbol: 5000}) == 5000 * 64 * 4


def test_the_bytes_of_a_product_are_those_of_its_operands_and_its_result() -> None:
    net = Net()
    model = net.model({"x": (1, [12, 16])}, [net.node("MatMul", "x", net.weight(normal(16, 20)))])
    plan = compiled(model, {"x": normal(12, 16)})
    assert plan.items[-1].traffic == (4 * (12 * 16 + 16 * 20), 4 * 12 * 20)
