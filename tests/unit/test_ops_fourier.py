"""Fourier transforms agree with numpy, whether their lengths can be split or not (onnxruntime's lose digits at other lengths than 2^n)."""

from __future__ import annotations

import numpy as np
import pytest
from one_operator import agrees_with_onnxruntime, evaluated, model, random

from nnjit.errors import UnsupportedError

LENGTHS = [1, 2, 17, 20, 1031, 1080, 1536]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("inverse", [0, 1])
def test_complex_transforms_of_any_length(length: int, inverse: int) -> None:
    x = random(2, length, 2)
    (y,) = evaluated(model("DFT", [x], inverse=inverse), {"x0": x}, {"x0": (3, length, 2)})
    signal = x[..., 0].astype(np.float64) + 1j * x[..., 1]
    expected = np.fft.ifft(signal) if inverse else np.fft.fft(signal)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(y[..., 0], expected.real, rtol=0, atol=2e-6 * scale)
    np.testing.assert_allclose(y[..., 1], expected.imag, rtol=0, atol=2e-6 * scale)


@pytest.mark.parametrize("length", [20, 21, 1536])
def test_there_and_back_one_sided(length: int) -> None:
    x = random(2, length, 1)
    there = model("DFT", [x, np.array(length), np.array(1)], (1, 2), opset=20, onesided=1)
    (y,) = evaluated(there, {"x0": x})
    expected = np.fft.rfft(x[..., 0].astype(np.float64))
    np.testing.assert_allclose(y[..., 0] + 1j * y[..., 1], expected, rtol=0, atol=1e-4)
    back = model("DFT", [y, np.array(length), np.array(-2)], (1, 2), opset=20, onesided=1, inverse=1)
    np.testing.assert_allclose(evaluated(back, {"x0": y})[0], x, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("axis", "length"), [(0, 6), (1, 9), (2, 5), (-2, 8), (1, 1200)])
def test_along_any_axis_with_zeros_behind_or_only_the_first_samples(axis: int, length: int) -> None:
    x = random(6, 7, 8, 1)
    proto = model("DFT", [x, np.array(length), np.array(axis)], (1, 2), opset=20, onesided=1)
    (y,) = evaluated(proto, {"x0": x})
    expected = np.fft.rfft(x[..., 0].astype(np.float64), length, 2 if axis == -2 else axis)
    np.testing.assert_allclose(y[..., 0] + 1j * y[..., 1], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("size", [16, 25, 1200])
def test_short_time_transforms(size: int, onesided: int) -> None:
    x, window = random(2, 1500, 1), np.hanning(size).astype(np.float32)
    proto = model("STFT", [x, np.array(7), window, np.array(size)], (1, 2, 3), onesided=onesided)
    (y,) = evaluated(proto, {"x0": x}, {"x0": (3, 1600, 1)})
    frames = np.lib.stride_tricks.sliding_window_view(x[..., 0], size, axis=1)[:, ::7] * window
    expected = (np.fft.rfft if onesided else np.fft.fft)(frames.astype(np.float64))
    np.testing.assert_allclose(y[..., 0] + 1j * y[..., 1], expected, rtol=0, atol=3e-5)


def test_a_long_prime_length_is_refused() -> None:
    x = random(1, 2053, 1)
    with pytest.raises(UnsupportedError, match=r"DFT.*2053 points"):
        evaluated(model("DFT", [x]), {"x0": x})


@pytest.mark.parametrize(
    ("bands", "size", "low", "high"), [(8, 16, 0.0, 4096.0), (40, 400, 20.0, 8000.0), (80, 64, 0.0, 7000.0)]
)
def test_mel_filters(bands: int, size: int, low: float, high: float) -> None:
    operands = [np.array(bands), np.array(size), np.array(16000), np.float32(low), np.float32(high)]
    agrees_with_onnxruntime("MelWeightMatrix", [np.asarray(o) for o in operands], range(5))
