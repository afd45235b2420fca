"""What training computes has the same bits in the process that compiles the loops and in those that load them.

Else a run that is killed and goes on would end in other weights than one that is not, if it was the first on a machine.
"""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import hashlib
import torch
from godwit.ops.backends import use
from godwit.ops.context import AttnContext
from godwit.ops.indexer_kl import Teacher, indexer_kl
from godwit.ops.rms_norm import rms_norm
from godwit.ops.sparse_attention import sparse_attention

def leaf(*shape):
    return torch.randn(shape).requires_grad_()

torch.manual_seed(0)
found, context = [], AttnContext.single(80)
index_TK = torch.arange(80)[:, None] - torch.arange(20)
index_TK = index_TK.masked_fill(index_TK < 0, -1).int()
with use(rms_norm="compiled", indexer_kl="compiled", sparse_attention="compiled"):
    x, weight = leaf(80, 40), leaf(40)
    found += torch.autograd.grad(rms_norm(x, weight, eps=1e-6).square().sum(), (x, weight))
    q, k, v = leaf(80, 4, 24), leaf(80, 2, 24), leaf(80, 2, 16)
    out = sparse_attention(q, k, v, index_TK, context, scale=0.2).out_THE
    found += torch.autograd.grad(out.square().sum(), (q, k, v))
    states = leaf(80, 4, 16), leaf(80, 16), leaf(80, 4)
    loss = indexer_kl([Teacher(q.detach(), k.detach(), 0.2)], *states, context, index_TK=index_TK).loss
    found += torch.autograd.grad(loss, states)
print([hashlib.sha256(each.contiguous().numpy().tobytes()).hexdigest() for each in found])
"""


def test_compiled_and_loaded_loops_have_the_same_bits(tmp_path: Path) -> None:
    def run() -> str:
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = run()
    assert list(tmp_path.rglob("*.nbc"))
    assert run() == first
