"""Names that a WGSL shader of ours cannot give to its own things."""

from __future__ import annotations

_KEYWORDS = """
alias break case const const_assert continue continuing default diagnostic discard else enable false fn for if let loop
override requires return struct switch true var while
"""

# https://www.w3.org/TR/WGSL/#reserved-words
_RESERVED_WORDS = """
NULL Self abstract active alignas alignof as asm asm_fragment async attribute auto await become cast catch class co_await
co_return co_yield coherent column_major common compile compile_fragment concept const_cast consteval constexpr constinit
crate debugger decltype delete demote demote_to_helper do dynamic_cast enum explicit export extends extern external
fallthrough filter final finally friend from fxgroup get goto groupshared highp impl implements import inline instanceof
interface layout lowp macro macro_rules match mediump meta mod module move mut mutable namespace new nil noexcept noinline
nointerpolation non_coherent noncoherent noperspective null nullptr of operator package packoffset partition pass patch
pixelfragment precise precision premerge priv protected pub public readonly ref regardless register reinterpret_cast require
resource restrict self set shared sizeof smooth snorm static static_assert static_cast std subroutine super target template
this thread_local throw trait try type typedef typeid typename typeof union unless unorm unsafe unsized use using varying
virtual volatile wgsl where with writeonly yield
"""

_TYPES_AND_BUILTINS = """
array atomic bool f16 f32 i32 mat2x2 mat3x3 mat4x4 ptr u32 vec2 vec3 vec4 vec2f vec3f vec4f vec2i vec3i vec4i vec2u vec3u
vec4u storage uniform workgroup function private read write read_write handle
abs bitcast ceil floor max min round select sqrt trunc workgroupBarrier
"""

_OURS = "Params params tasks infinity nan main floordiv group groups invocation task lane"

RESERVED = frozenset(f"{_KEYWORDS} {_RESERVED_WORDS} {_TYPES_AND_BUILTINS} {_OURS}".split())
"""Keywords, reserved words, the predeclared names that shaders use, and the names that every shader of ours has."""
