"""Tensor expressions to groups: what runs in one pass over its axes, one kernel each.

    fuse     Fuser: Computes become Groups, by index maps alone (epilogues, rows, elementwise chains)
    group    Group, and what a Compute depends on
    chain    contraction, reductions of its rows, contraction: three groups that become one kernel (attention)

Each Compute that an output needs is in exactly one group, and groups are in an order in which they can run. No operator is known here
by its name.
"""
