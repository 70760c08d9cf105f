"""Groups to specs, and specs under schedules to loop IR.

    specify, normalize, sizes, numbers    Group → KernelSpec (spec.py): the same text for what is the same kernel
    spec_verify                           the rules of specs
    scheduled                             KernelSpec × Schedule → `Lowered`, the entry; lower.py says how its parts work together

A spec says what a kernel computes, a schedule how; lowering decides nothing that a schedule could say, and knows the target only
for what the IR may use there. What it makes is verified by `ir_verify`. Raises ValueError for a schedule that does not fit the spec.
"""
