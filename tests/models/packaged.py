"""ONNX models that published Python packages carry: extracted as they are, pinned by sha256."""

from __future__ import annotations

from pathlib import Path

from nnjit_build.fetch import member

_MAGIKA = ("magika==1.0.3", "magika/models/standard_v3_3/")
_SILERO = ("silero-vad==6.2.3", "silero_vad/data/")
_RAPIDOCR = ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/")
_TASHKEEL = ("text2tashkeel==0.1.0", "text2tashkeel/models/")
_ONNX_ASR = ("onnx-asr==0.12.0", "onnx_asr/preprocessors/data/")

# name: ((package, folder), file, sha256)
PACKAGED = {
    "magika": (_MAGIKA, "model.onnx", "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c"),
    "silero-vad": (
        _SILERO,
        "silero_vad.onnx",
        "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
    ),
    "silero-vad-16k-op15": (
        _SILERO,
        "silero_vad_16k_op15.onnx",
        "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
    ),
    "silero-vad-16k-sequence": (
        _SILERO,
        "silero_vad_16k_sequence.onnx",
        "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
    ),
    "silero-vad-half": (
        _SILERO,
        "silero_vad_half.onnx",
        "1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769",
    ),
    "silero-vad-op18-ifless": (
        _SILERO,
        "silero_vad_op18_ifless.onnx",
        "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
    ),
    "silero-vad-openvino-16k": (
        _SILERO,
        "silero_vad_openvino_16k.onnx",
        "7776b81ad1b0350c15d7f1555943b9232eb53e9ca5d989c6d0cea9ebc8664d87",
    ),
    "rapidocr-det": (
        _RAPIDOCR,
        "ch_PP-OCRv4_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    ),
    "rapidocr-cls": (
        _RAPIDOCR,
        "ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    ),
    "rapidocr-rec": (
        _RAPIDOCR,
        "ch_PP-OCRv4_rec_infer.onnx",
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    ),
    "tashkeel-bilstm-q8": (
        _TASHKEEL,
        "bilstm.int8.onnx",
        "106917dbd76e0ae6a07d28e71556b97d42a1de9f9a67973272ab5d304d40527e",
    ),
    "kaldi-features": (
        _ONNX_ASR,
        "kaldi.onnx",
        "7d0f04ed3aa0775ac690c5bb3680cdef3e68807ee3ce415f0ca47deeeefc9bce",
    ),
}


def fetch(name: str, to: Path) -> None:
    """Extract the packaged model `name` to `to`."""
    (requirement, folder), file, digest = PACKAGED[name]
    member(requirement, folder + file, digest, to)
