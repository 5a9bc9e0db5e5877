"""BERT & ViT Workbench: one Transformer encoder, two front doors, small heads; see README.

`import workbench as wb` gives the names of `__init__.pyi`; widgets are in `workbench.widgets`. A name is
loaded when it is first used, so that the `workbench` command does not wait for PyTorch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
