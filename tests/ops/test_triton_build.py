"""Every Triton kernel builds for GPUs that are not there, and fits them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

# Shared memory that one program may have, in bytes: A100 163 KB, H100 227 KB.
SHARED = {80: 163 << 10, 90: 227 << 10}
# Bytes a thread may spill at half precision, which is what a GPU is for; float32 has no tensor cores and spills more.
SPILLED = 128


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float32", marks=pytest.mark.slow)])
def test_every_kernel_builds_for_a100_and_h100(dtype: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.ops.triton_launches", dtype],
        capture_output=True, text=True, cwd=Path(__file__).parents[2],
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["forgotten"] == []
    assert {each["arch"] for each in found["built"]} == set(SHARED)
    assert len({each["kernel"] for each in found["built"]}) >= 11
    assert [each for each in found["built"] if each["shared"] > SHARED[each["arch"]]] == []
    if dtype == "bfloat16":
        assert [each for each in found["built"] if each["stack"] > SPILLED] == []
