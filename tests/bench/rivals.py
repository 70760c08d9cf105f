"""The libraries that nnjit is compared with: pinned npm packages, served to the page from the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnjit_build.fetch import gather, npm_package, url_folder
from nnjit_build.paths import CACHE


@dataclass(frozen=True)
class Package:
    """An npm package, and the sha256 of each of its files that a page needs."""

    specification: str
    files: dict[str, str]

    def ensure(self) -> Path:
        """The folder with the files, fetched and checked when they are not there yet."""
        folder = CACHE / "rivals" / self.specification
        sources = (
            npm_package(self.specification),
            url_folder(f"https://cdn.jsdelivr.net/npm/{self.specification}/"),
        )
        gather(self.files, folder, sources)
        return folder


@dataclass(frozen=True)
class Rival:
    """One library on one device.

    name      as the user writes it after --against
    version   of the npm package
    entry     the file of the package that the page imports
    module    the contestant's module under tests/bench/page
    packages  served side by side, each under its specification
    models    True: it runs ONNX models; False: single operators only
    """

    name: str
    version: str
    entry: str
    module: str
    packages: tuple[Package, ...]
    models: bool


_ORT_WASM = Package(
    "onnxruntime-web@1.30.0",
    {
        "dist/ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
        "dist/ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
        "dist/ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    },
)
_ORT_WEBGPU = Package(
    "onnxruntime-web@1.30.0",
    {
        "dist/ort.webgpu.min.mjs": "3dffff71811bc13a3a3d9591c57ca5ee5735b8f5f3eaf789510b02bb040ae3a0",
        "dist/ort-wasm-simd-threaded.asyncify.mjs": "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28",
        "dist/ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
    },
)
_TFJS = Package(
    "@tensorflow/tfjs@4.22.0",
    {"dist/tf.min.js": "300dfae273d20b4046f46a06d735688f03675a807561e9bcb5f664eb2f3d2831"},
)
_TFJS_WASM = Package(
    "@tensorflow/tfjs-backend-wasm@4.22.0",
    {
        "dist/tf-backend-wasm.min.js": "691bbec0ef8b5a7f17f212e9c5d85832030f90d030b46e99acb4dea1fb16f009",
        "wasm-out/tfjs-backend-wasm.wasm": "70a5d516060464e5269f01c74bac1772d6b8ab6cb612acf16b5cdaf61f78d892",
        "wasm-out/tfjs-backend-wasm-simd.wasm": "77ebb28a6d34f371dbbf2086b7f2de8994acd8ea5a3cf1fa24d2c26c840cac7b",
        "wasm-out/tfjs-backend-wasm-threaded-simd.wasm": "c052228d4bef185c27bbe59a9e029570c78bbb9f08b3cb46b597851650373de2",
    },
)
_JAX_JS = Package(
    "@jax-js/jax@0.1.25",
    {
        "dist/backend-CnjgxpXq.js": "6f515399eb135f3d97c891494b3b34a67db1445fe75705bf1cc94b821e3a5386",
        "dist/index.js": "ebe0cf7d20d4c64a490a15aee0083f950cd7abb38900b72566f0393e2b14eb52",
        "dist/rolldown-runtime-D7D4PA-g.js": "16a983b80655888fa521be8504570aef2fc3713d1a723ff439beddac3a2428c3",
        "dist/webgl-d1MbwhuX.js": "0a442c097453939395cdb695bc30f9243c8f042a0e125c3989b0cf9c28d32347",
        "dist/webgpu-D5edCWOx.js": "36aed0121433e0535cb23e63bf18f929d57ab10271e9ce606e5f336ccec3de09",
    },
)

_RIVALS = {
    ("ort-web", "wasm"): Rival(
        "ort-web", "1.30.0", "ort.wasm.min.mjs", "ort-web.js", (_ORT_WASM,), models=True
    ),
    ("ort-web", "webgpu"): Rival(
        "ort-web", "1.30.0", "ort.webgpu.min.mjs", "ort-web.js", (_ORT_WEBGPU,), models=True
    ),
    ("tfjs", "wasm"): Rival(
        "tfjs", "4.22.0", "tf-backend-wasm.min.js", "tfjs.js", (_TFJS, _TFJS_WASM), models=False
    ),
    ("jax-js", "wasm"): Rival("jax-js", "0.1.25", "index.js", "jax-js.js", (_JAX_JS,), models=False),
    ("jax-js", "webgpu"): Rival("jax-js", "0.1.25", "index.js", "jax-js.js", (_JAX_JS,), models=False),
}
NAMES = tuple(dict.fromkeys(name for name, _ in _RIVALS))


def rival(name: str, device: str) -> Rival | None:
    """The rival called `name` on `device`, or None where it has nothing for that device."""
    return _RIVALS.get((name, device))
