"""All of PyTorch's private names that this project uses, under plain ones.

Private are modules, functions and classes with a leading underscore, and what lives in such a module and is documented
nowhere else. Other modules import them from here alone, so a new PyTorch is looked at in one place:
``python -m tzwc._torch`` says which names are missing or behave differently. Nothing here imports other parts of tzwc.

:mod:`.dynamo`, :mod:`.inductor_passes` and :mod:`.symbolic_shapes` take long to load: import them only where they are
needed. The process that lowers for a GPU which is not there, ``tzwc/cross_compile/worker``, runs inside of Inductor and
uses its classes by their own names; the self-test looks for these names as well.
"""
