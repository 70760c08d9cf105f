"""The models that nnjit is tested with: one table of names, where each comes from, and inputs that fit it.

    path("magika")                       the .onnx file, fetched or made on the first call, cached under .cache/models
    inputs("magika", seed=0, batch=3)    numpy inputs; keyword arguments replace the entry's default dimensions
    names(marked=False)                  the default set; marked=True: the large one, most of it made with PyTorch

From a shell: `PYTHONPATH=py:tests python -m models.registry [NAME ...]` makes the models named (default: the default set).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from nnjit_build.paths import MODELS as FOLDER

from . import exported, llama, minilm, packaged, quantised
from .images import page

Arrays = dict[str, np.ndarray]
MakeInputs = Callable[..., Arrays]


@dataclass(frozen=True)
class Model:
    """One test model.

    name    also the file's name: `.cache/models/<name>.onnx`
    how     where it comes from, in words
    make    writes the file to the path it is given
    fill    makes inputs from a random generator and the dimensions, given by keyword
    dims    the default value of each dimension that `fill` takes
    marked  True: in the large set that tests run only under the `models` mark
    note    what is particular about it
    """

    name: str
    how: str
    make: Callable[[Path], None]
    fill: MakeInputs
    dims: dict[str, int] = field(default_factory=dict)
    marked: bool = False
    note: str = ""


def _bytes_of_text(rng: np.random.Generator, batch: int) -> Arrays:
    """First and last 1024 bytes of a file as magika reads it; 256 pads a file that is shorter."""
    words = [
        b"def",
        b"return",
        b"import",
        b"numpy",
        b"self",
        b"x",
        b"=",
        b"(",
        b")",
        b":\n    ",
        b"for",
        b"in",
        b"#",
    ]
    rows = np.full((batch, 2048), 256, np.int32)
    for row in rows:
        source = b" ".join(words[i] for i in rng.integers(0, len(words), 600))
        row[:1024] = np.frombuffer(source[:1024], np.uint8)
        end = np.frombuffer(source[-900:], np.uint8)
        row[2048 - len(end) :] = end
    return {"bytes": rows}


def _speech(rng: np.random.Generator, batch: int, samples: int, rate: int) -> np.ndarray:
    """Something voice-like: a 140 Hz buzz with formant-like weights, float32 [batch, samples]."""
    time = np.arange(samples) / rate
    wave = np.zeros((batch, samples))
    for harmonic in range(1, 20):
        weight = 1 / harmonic + 0.8 * np.exp(-(((140 * harmonic - 700) / 200) ** 2))
        wave += weight * np.sin(2 * np.pi * 140 * harmonic * time + rng.uniform(0, 2 * np.pi, (batch, 1)))
    return (0.08 * wave + rng.normal(0, 0.005, wave.shape)).astype(np.float32)


def _silero(rng: np.random.Generator, batch: int, rate: int, with_rate: bool) -> Arrays:
    """One frame of 32 ms with 4 ms of context, and the recurrent state of an earlier frame."""
    arrays = {
        "input": _speech(rng, batch, 576 * rate // 16000, rate),
        "state": rng.normal(0, 0.3, (2, batch, 128)).astype(np.float32),
    }
    return arrays | ({"sr": np.array(rate, np.int64)} if with_rate else {})


def _silero_sequence(rng: np.random.Generator, sequence_length: int) -> Arrays:
    state = {name: rng.normal(0, 0.3, (1, 1, 128)).astype(np.float32) for name in ("h", "c")}
    return {"input": _speech(rng, sequence_length, 576, 16000), **state}


def _page(
    rng: np.random.Generator, batch: int, height: int, width: int, lines: tuple[str, ...], scale: int
) -> Arrays:
    return {"x": np.stack([page(list(lines), height, width, scale, rng) for _ in range(batch)])}


def _tokens(
    rng: np.random.Generator,
    batch: int,
    sequence: int,
    vocabulary: int,
    types: bool = False,
    mask: bool = True,
) -> Arrays:
    """Token ids that avoid the special ids below 3; every row but the first ends in a quarter of padding."""
    arrays = {"input_ids": rng.integers(3, vocabulary, (batch, sequence), np.int64)}
    if mask:
        arrays["attention_mask"] = np.ones((batch, sequence), np.int64)
        arrays["attention_mask"][1:, sequence - sequence // 4 :] = 0
    if types:
        arrays["token_type_ids"] = np.zeros((batch, sequence), np.int64)
        arrays["token_type_ids"][:, sequence // 2 :] = 1
    return arrays


def _encoder_decoder(rng: np.random.Generator, batch: int, sequence: int, decoder_sequence: int) -> Arrays:
    source = _tokens(rng, batch, sequence, 32100, mask=False)
    target = _tokens(rng, batch, decoder_sequence, 32100, mask=False)["input_ids"]
    target[:, 0] = 0
    return {**source, "decoder_input_ids": target}


def _pixels(rng: np.random.Generator, batch: int) -> Arrays:
    """A smooth colour field with noise, normalised as for ImageNet."""
    coarse = rng.normal(0, 1.0, (batch, 3, 8, 8))
    smooth = np.kron(coarse, np.ones((28, 28)))
    return {"pixel_values": (smooth + rng.normal(0, 0.3, smooth.shape)).astype(np.float32)}


def _spectrogram(rng: np.random.Generator, batch: int) -> Arrays:
    """A log-mel spectrogram of 30 s in Whisper's range, about -1 .. 1.5."""
    envelope = np.sin(np.linspace(0, 60, 3000))[None, None] * np.linspace(0.6, 0.1, 80)[None, :, None]
    return {
        "input_features": (envelope + rng.normal(0, 0.3, (batch, 80, 3000))).clip(-1, 1.5).astype(np.float32)
    }


def _letters(rng: np.random.Generator, batch: int, sequence: int) -> Arrays:
    return {"input_ids": rng.integers(1, 40, (batch, sequence), np.int64)}


def _recording(rng: np.random.Generator, batch: int, samples: int) -> Arrays:
    """Speech of 16 kHz; every row but the first is silent from two thirds on."""
    lengths = np.array([samples, *[2 * samples // 3] * (batch - 1)], np.int64)
    waves = _speech(rng, batch, samples, 16000) * (np.arange(samples) < lengths[:, None])
    return {"waveforms": waves.astype(np.float32), "waveforms_lens": lengths}


_ONE = {"batch": 1}
_RECURRENT = "recurrent state in and out; LSTM"
_OCR = "exported from Paddle: many small nodes, fixed channels, free height and width"
_DIFFERS = "onnxruntime's own optimised and unoptimised runs differ by more than 1e-4 of the rms"

_PACKAGED = [
    (
        "magika",
        _bytes_of_text,
        _ONE,
        "int32 bytes in; embedding as a product, one convolution, GlobalMaxPool",
    ),
    (
        "silero-vad",
        partial(_silero, with_rate=True),
        {"batch": 1, "rate": 16000},
        "If on the sampling rate; " + _RECURRENT,
    ),
    ("silero-vad-16k-op15", partial(_silero, rate=16000, with_rate=True), _ONE, "If inside; " + _RECURRENT),
    (
        "silero-vad-16k-sequence",
        _silero_sequence,
        {"sequence_length": 8},
        "frames of one recording; LSTM over all of them",
    ),
    ("silero-vad-half", partial(_silero, rate=16000, with_rate=False), _ONE, "If inside; " + _RECURRENT),
    ("silero-vad-op18-ifless", partial(_silero, with_rate=True), {"batch": 1, "rate": 16000}, _RECURRENT),
    (
        "silero-vad-openvino-16k",
        partial(_silero, batch=1, rate=16000, with_rate=False),
        {},
        "static shapes; " + _RECURRENT,
    ),
    (
        "rapidocr-det",
        partial(_page, lines=("HELLO WORLD", "READ THE ROAD"), scale=4),
        {"batch": 1, "height": 160, "width": 352},
        _OCR,
    ),
    (
        "rapidocr-cls",
        partial(_page, lines=("HELLO",), scale=5),
        {"batch": 1, "height": 48, "width": 192},
        _OCR,
    ),
    (
        "rapidocr-rec",
        partial(_page, lines=("HELLO WORLD",), scale=4),
        {"batch": 1, "height": 48, "width": 320},
        f"{_OCR}; {_DIFFERS}",
    ),
]

_FURTHER = [
    ("tashkeel-bilstm-q8", _letters, {"batch": 1, "sequence": 24}, "DynamicQuantizeLSTM; 5 MB"),
    ("kaldi-features", _recording, {"batch": 1, "samples": 8000}, "no network: STFT, mel filters, logarithm"),
]

_EXPORTED = [
    ("roberta-base", partial(_tokens, vocabulary=50265), {"batch": 1, "sequence": 128}, "486 MB"),
    ("gpt2", partial(_tokens, vocabulary=50257), {"batch": 1, "sequence": 64}, "prefill; 490 MB or more"),
    (
        "t5-small",
        _encoder_decoder,
        {"batch": 1, "sequence": 64, "decoder_sequence": 32},
        "encoder and decoder in one graph",
    ),
    (
        "bert-mini",
        partial(_tokens, vocabulary=30522, types=True),
        {"batch": 1, "sequence": 128},
        "4 layers of width 256",
    ),
    ("deit-tiny", _pixels, _ONE, ""),
    ("vit-base", _pixels, _ONE, "346 MB"),
    ("resnet-50", _pixels, _ONE, ""),
    ("mobilenet-v2", _pixels, _ONE, ""),
    ("whisper-tiny-encoder", _spectrogram, _ONE, "sequence 1500"),
]

_ALL = [
    *(
        Model(
            name,
            f"as published in {packaged.PACKAGED[name][0][0]}",
            partial(packaged.fetch, name),
            fill,
            dims,
            marked,
            note,
        )
        for rows, marked in ((_PACKAGED, False), (_FURTHER, True))
        for name, fill, dims, note in rows
    ),
    Model(
        "minilm-l6",
        f"graph written with onnx.helper from the weights in {minilm.PACKAGE}",
        minilm.make,
        partial(_tokens, vocabulary=30522, types=True),
        {"batch": 2, "sequence": 16},
        note="LayerNorm, GELU and the mask as small nodes; 91 MB",
    ),
    *(
        Model(
            name,
            "graph of a decoder written with onnx.helper, random weights",
            partial(llama.make, four_bits=four_bits),
            llama.inputs,
            {"batch": 1, "sequence": 1, "past": 32},
            marked=not four_bits,
            note="a step with a cache of keys and values; com.microsoft's operators, " + size,
        )
        for name, four_bits, size in (("llama-mini", False, "128 MB"), ("llama-mini-q4", True, "21 MB"))
    ),
    Model(
        "minilm-l6-q8",
        "minilm-l6 through onnxruntime's quantize_dynamic",
        lambda to: quantised.dynamic(path("minilm-l6"), to),
        partial(_tokens, vocabulary=30522, types=True),
        {"batch": 2, "sequence": 16},
        note="weights int8; DynamicQuantizeLinear and MatMulInteger; 23 MB",
    ),
    Model(
        "rapidocr-cls-q8",
        "rapidocr-cls through onnxruntime's quantize_static, calibrated on four pages",
        lambda to: quantised.static(
            path("rapidocr-cls"), [inputs("rapidocr-cls", seed) for seed in range(1, 5)], to
        ),
        partial(_page, lines=("HELLO",), scale=5),
        {"batch": 1, "height": 48, "width": 192},
        note="weights int8 per channel; QuantizeLinear and DequantizeLinear around convolutions; outputs in steps of 1/255",
    ),
    *(
        Model(
            name, "random weights, torch.onnx.export", partial(exported.export, name), fill, dims, True, note
        )
        for name, fill, dims, note in _EXPORTED
    ),
]
MODELS = {model.name: model for model in _ALL}


def names(marked: bool | None = None) -> list[str]:
    """Names of all models, or of the default set (False), or of the marked set (True)."""
    return [model.name for model in _ALL if marked is None or model.marked == marked]


def path(name: str) -> Path:
    """The model's file, made on the first call. Raises KeyError for an unknown name, RuntimeError if it cannot be made."""
    file = FOLDER / f"{name}.onnx"
    if not file.exists():
        MODELS[name].make(file)
    return file


def inputs(name: str, seed: int = 0, **dims: int) -> Arrays:
    """Seeded inputs in the model's input names, dtypes and realistic ranges."""
    model = MODELS[name]
    return model.fill(np.random.default_rng(seed), **(model.dims | dims))


if __name__ == "__main__":
    for wanted in sys.argv[1:] or names(marked=False):
        print(path(wanted), path(wanted).stat().st_size)
