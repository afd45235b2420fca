"""For all tests: threads that wait do not spin, so that tests keep their speed on a busy machine.

Triton kernels run under its interpreter, which must be said before they are first imported; their offline compilation
has a process of its own without it (tests/ops/test_triton_build.py).
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    # As many workers as cores: one thread each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRITON_INTERPRET", "1")
