"""What runs in a process of its own: PyTorch and Triton believe in a GPU there, so nothing else may run in it.

Only :mod:`tzwc.cross_compile.process` starts such a process; importing these modules anywhere else is harmless, but
:func:`tzwc.cross_compile.worker.stand_ins.install` must never be called in a process that goes on to do other work.
"""
