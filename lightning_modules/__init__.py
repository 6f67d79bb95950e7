"""The models: every LightningModule of astrolit.

Exports are in `__init__.pyi` and are imported when they are first used.
"""

import os

import lazy_loader

# Idle OpenMP threads sleep instead of spinning: on a machine shared with others, a small network
# otherwise trains many times slower. OpenMP reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
