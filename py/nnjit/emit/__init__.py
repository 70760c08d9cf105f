"""Code generation: the loop IR becomes WebAssembly binaries or WGSL text."""
