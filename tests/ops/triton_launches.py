"""Compiles every Triton kernel for GPUs that are not there, as it would be launched at GLM-5's shapes; prints JSON.

    python -m tests.ops.triton_launches bfloat16        # without TRITON_INTERPRET

The backends run on a CPU with a launcher that compiles for sm_80 and sm_90 instead of launching, so tile sizes, warps
and argument types are the real ones. Printed are, per kernel and target, the shared memory of a program in bytes and
the registers spilled to memory; and the kernels that no backend launched, for a new one must not be forgotten here.
"""

import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import ModuleType
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature

import godwit.ops
from godwit.ops import index_topk, indexer_kl, sample_attention, sparse_attention, sparse_mla
from godwit.ops.context import AttnContext

TARGETS = [GPUTarget("cuda", 80, 32), GPUTarget("cuda", 90, 32)]
TOKENS = 48
# Key-value heads and widths of a latent teacher: expanded, absorbed.
LATENT = [(64, 256), (1, 576)]
Built = dict[tuple, dict]


def kernel_modules() -> list[ModuleType]:
    """Those of the operations that hold Triton kernels, by their names."""
    found = pkgutil.walk_packages(godwit.ops.__path__, "godwit.ops.")
    return [importlib.import_module(each.name) for each in found if each.name.endswith("_triton")]


def kernels() -> set[str]:
    """Kernels that are launched; what begins with an underscore is a part of others."""
    return {
        f"{module.__name__}.{name}"
        for module in kernel_modules()
        for name, value in vars(module).items()
        if isinstance(value, JITFunction) and value.__module__ == module.__name__ and not name.startswith("_")
    }


def build(kernel: JITFunction, args: tuple, kwargs: dict, built: Built) -> None:
    """Compile one launch for all targets, if it was not yet."""
    for target in TARGETS:
        backend = make_backend(target)
        binder = create_function_from_signature(kernel.signature, kernel.params, backend)
        bound, specialization, options = binder(*args, **kwargs)
        key = (f"{kernel.__module__}.{kernel.__name__}", target.arch, str(specialization), str(options))
        if key in built:
            continue
        options, signature, constants, attributes = kernel._pack_args(backend, options, bound, specialization, options)
        source = ASTSource(kernel, signature, constants, attributes)
        made = triton.compile(source, target=target, options=options.__dict__)
        built[key] = {
            "kernel": key[0], "arch": target.arch, "shared": made.metadata.shared, **resources(made.asm["cubin"]),
        }  # fmt: skip


def resources(binary: bytes) -> dict[str, int]:
    """Registers of a thread, and bytes of them that do not fit and go to memory."""
    with NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        done = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if "REG:" in line)
    numbers = dict(item.split(":")[:2] for item in line.split() if ":" in item)
    return {"registers": int(numbers["REG"]), "stack": int(numbers["STACK"])}


def launch_all(dtype: torch.dtype) -> None:
    """Each operation once or more, at GLM-5's head shapes: every kernel in every form it has."""
    randn = lambda *shape: torch.zeros(*shape, dtype=dtype).requires_grad_()  # noqa: E731
    context, index_TK = AttnContext.single(TOKENS), torch.zeros(TOKENS, 2048, dtype=torch.int32)
    load = lambda op: op._OP.room.load("triton")  # noqa: E731
    student = [randn(TOKENS, 32, 128), randn(TOKENS, 128), randn(TOKENS, 32)]
    load(index_topk).run(*student, context, topk=2048)
    found = load(sparse_mla).run(randn(TOKENS, 64, 576), randn(TOKENS, 576), index_TK, scale=0.1, latent_width=512)
    (found[0].sum() + found[1].sum()).backward()
    # Expanded latent heads, and groups of twelve heads as GLM-4.5 has them.
    for heads, groups, width in ((64, 64, 256), (96, 8, 128)):
        grouped = [randn(TOKENS, n, width) for n in (heads, groups, groups)]
        load(sparse_attention).run(*grouped, index_TK, context, scale=0.1).out_THE.sum().backward()
    stripes = sample_attention.Stripes(torch.ones(TOKENS, 96, dtype=torch.bool), (16,))
    load(sample_attention).run(*grouped, stripes, context, scale=0.1)
    teachers = [indexer_kl.Teacher(randn(TOKENS, 64, width), randn(TOKENS, n, width), 0.1) for n, width in LATENT]
    for chosen_TK in (None, index_TK):
        options = {"index_TK": chosen_TK, "form": "multi", "measure_TK": None}
        load(indexer_kl).run(teachers, *student, context, **options)


def main() -> None:
    """Build and print."""
    built: Built = {}

    def run(self: JITFunction, *args: object, grid: object, warmup: bool, **kwargs: object) -> None:
        build(self, args, kwargs, built)

    with mock.patch.object(JITFunction, "run", run):
        launch_all(getattr(torch, sys.argv[1]))
    launched = {found["kernel"] for found in built.values()}
    print(json.dumps({"built": list(built.values()), "forgotten": sorted(kernels() - launched)}))


if __name__ == "__main__":
    main()
