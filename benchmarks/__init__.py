"""The programs behind the figures, run from a checkout as ``python -m benchmarks.NAME``."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: waiting threads sleep
