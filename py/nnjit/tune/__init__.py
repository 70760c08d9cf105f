"""Which kernels are best on this device: what to measure next, and whether to believe it.

    microbench, device_class    what the device can do; devices that are alike
    cost_model                  predicted times, corrected by those that were measured
    task, tuner                 the search: tasks by what they may still gain, candidates in batches, winners by a second match
    kernel_file, memory_kernels tuned schedules as a file that browsers exchange; kernels that measure memory

It asks an `Executor` for measurements and never waits for a device itself, so that all of it runs without a browser.
"""
