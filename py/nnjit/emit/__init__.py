"""Code generation: the loop IR becomes WebAssembly binaries (`wasm.emit_module`) or WGSL text (`wgsl.emit_shader`).

    wasm_*    index and value expressions, addresses, the tables of instructions, the binary format; `wat` prints a module
    wgsl_*    the same for shaders
    half      f16 in arithmetic of integers, where there is no instruction for it

Nothing is decided here but instructions: loops, tiles and accumulators come as the kernel has them.
"""
