"""All of PyTorch's private names that this project uses, under plain ones.

Private are modules, functions and classes with a leading underscore, and what lives in such a module and is documented
nowhere else. Other modules import them from here alone, so a new PyTorch is looked at in one place:
``python -m tzwc._torch`` says which names are missing or behave differently. Nothing here imports other parts of tzwc.

A module holds what one import of PyTorch brings: :mod:`.dynamo` and the ``inductor_*`` modules take seconds to load and
must be imported only by those who need them.
"""
