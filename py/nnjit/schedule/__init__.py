"""How a kernel may be computed: `space.space` gives a spec's schedules, the best guess first. README.md beside this file
says which families there are, why, and how to add one.

    schedule                                 Schedule: frozen, with a text that can be stored, shared and read back
    space, products, maps, gpu, winograd,    the lite space, family by family
    coded, roles
    legal                                    which schedules from elsewhere may be lowered
"""
