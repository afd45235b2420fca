r"""What vLLM's own code makes of a checkpoint that Godwit saved, on a machine without a GPU.

    python tools/check_vllm.py FOLDER [--mtp] [--override JSON]

vLLM resolves config.json, builds the model's class (with --mtp the draft of the prediction layer) and loads the folder
with its `DefaultModelLoader`. Each tensor is handed over filled with a number of its own, so that every value of a
parameter says afterwards where it is from. Ends with 1 if

* vLLM refuses the folder, leaves values of a parameter unfilled or part of a tensor untaken. A main model leaves the
  prediction layer to the draft; a draft leaves the main layers, and gets its `shared_head.head` from its target later;
* the layers with an indexer are not those of `indexer_types`, `index_topk_pattern` and `index_topk_freq`, or rotate
  otherwise than `indexer_rope_interleave` says (where config.json is silent: as the family does in Transformers);
* a router has no correction bias or does not score with a sigmoid.

Replaced for want of a GPU: its answers about itself (an H200), streams, vLLM's compiled modules, operators that
constructors take and do not call, whether DeepGEMM is there, the process in which vLLM inspects classes. Not shown: a
forward pass, kernels, what vLLM does to values after loading, several GPUs, quantized checkpoints, the classes for
devices of others than NVIDIA. The model is built in memory, in float32: take a small one.

In an environment of its own, without CUDA's gigabytes (vLLM 0.33 asks for torch 2.14; this was run with 2.13 for CPUs):
    pip install torch==2.13.0+cpu transformers==5.19.0 aiohttp apache-tvm-ffi==0.1.11 cachetools cbor2 cloudpickle \
        einops fastapi llguidance msgspec openai oss-harmony partial-json-parser pillow \
        prometheus_client psutil py-cpuinfo pybase64 pyzmq uvloop
    pip install --no-deps vllm==0.33.0 xgrammar==0.2.8
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

PLAN_KEYS = ("indexer_types", "index_topk_pattern", "index_topk_freq")
COMPILED = ("_C_stable_libtorch", "vllm_flash_attn._vllm_fa2_C", "vllm_flash_attn._vllm_fa3_C")
OPERATORS = ("silu_and_mul", "rms_norm", "fused_add_rms_norm", "rotary_embedding", "gelu_and_mul")
QUESTIONS = ("scaled_mm_supports_fp8", "scaled_mm_supports_block_fp8", "scaled_mm_supports_fp4", "group_gemm_supported")


def vllm(part: str) -> Any:
    """A module of vLLM, imported where it is used: the stand-ins and environment variables come before."""
    return importlib.import_module(f"vllm.{part}")


def stub_gpu() -> None:
    """Stand-ins for a GPU and the compiled modules."""
    sys.modules |= {f"vllm.{name}": types.ModuleType(name) for name in COMPILED}
    library = torch.library.Library("_C", "FRAGMENT")
    for name in QUESTIONS:
        library.define(f"cutlass_{name}(int capability) -> bool")
        library.impl(f"cutlass_{name}", lambda capability: False, "CompositeExplicitAutograd")
    for name in OPERATORS:  # declared, so that constructors find them, without a body: torch refuses a call
        library.define(f"{name}() -> ()")
    torch.cuda.Stream = torch.cuda.Event = type("Nothing", (), {"__init__": lambda self, *a, **k: None})
    answers = {
        "get_device_capability": vllm("platforms.interface").DeviceCapability(9, 0), "get_device_name": "NVIDIA H200",
        "get_device_total_memory": 141 << 30, "is_pin_memory_available": False, "num_compute_units": 132,
        "get_cuda_runtime_major": 13, "set_device": None, "device_count": 1,
    }  # fmt: skip
    members = {name: classmethod(lambda cls, *a, _value=value, **k: _value) for name, value in answers.items()}
    cuda = vllm("platforms.cuda").NonNvmlCudaPlatform
    vllm("platforms")._current_platform = type("NoGpu", (cuda,), members | {"device_type": "cpu"})()
    vllm("model_executor.layers.sparse_attn_indexer").has_deep_gemm = lambda: True


def configure(folder: Path, override: dict[str, Any], *, mtp: bool) -> Any:
    """vLLM's config of the folder or of its draft."""
    # A process of its own, in which vLLM looks at a class, would be without the stand-ins.
    vllm("model_executor.models.registry")._run_in_subprocess = lambda function: function()
    config = vllm("engine.arg_utils").EngineArgs(
        model=str(folder), hf_overrides=override, load_format="safetensors", enforce_eager=True, use_tqdm_on_load=False,
        skip_tokenizer_init=not (folder / "tokenizer.json").is_file(), max_num_batched_tokens=8192,
    ).create_engine_config()  # fmt: skip
    if mtp:
        config.speculative_config = vllm("config.speculative").SpeculativeConfig(
            method="mtp", num_speculative_tokens=2, target_model_config=config.model_config,
            target_parallel_config=config.parallel_config,
        )  # fmt: skip
        config.model_config = config.speculative_config.draft_model_config
    return config


def build(config: Any, scratch: Path) -> Any:
    """The model as vLLM makes it, in a process group of one."""
    vllm("v1.worker.workspace").init_workspace_manager(torch.device("cpu"))
    dtype = vllm("utils.torch_utils").set_default_torch_dtype(config.model_config.dtype)
    with vllm("config").set_current_vllm_config(config), dtype, torch.device("cpu"):
        ranks = vllm("distributed")
        ranks.init_distributed_environment(1, 0, f"file://{scratch / 'ranks'}", 0, backend="gloo")
        ranks.ensure_model_parallel_initialized(1, 1)
        model = vllm("model_executor.model_loader.utils").initialize_model(config, model_config=config.model_config)
    print(f"class: {type(model).__module__}.{type(model).__qualname__}")
    return model


def plans(said: dict[str, Any], layers: list[int]) -> dict[str, list[int]]:
    """By key of config.json, the layers that it gives an indexer."""
    letters = {key: said[key] for key in ("indexer_types", "index_topk_pattern") if said.get(key)}
    if freq := said.get("index_topk_freq"):
        first = said.get("index_skip_topk_offset", 2) - 1
        letters["index_topk_freq"] = ["S" if max(index - first, 0) % freq else "F" for index in layers]
    found = {key: [i for i, one in enumerate(plan) if one in ("F", "full")] for key, plan in letters.items()}
    return found or {"index_topk": layers if "index_topk" in said else []}


def check_layers(model: Any, said: dict[str, Any], *, mtp: bool) -> Iterator[str]:
    """Faults of indexers and routers against what config.json says."""
    if mtp:
        layers = {int(name): layer.mtp_block for name, layer in model.model.layers.items()}
        said = {key: value for key, value in said.items() if key not in PLAN_KEYS}  # it is in no plan
    else:
        layers = dict(enumerate(model.model.layers))
    built = [index for index, layer in layers.items() if getattr(layer.self_attn, "indexer", None) is not None]
    print("layers with an indexer:", built)
    for key, plan in plans(said, list(layers)).items():
        if plan != built:
            yield f"{key} gives indexers to layers {plan}, vLLM to {built}"
    interleave = said.get("indexer_rope_interleave", said["model_type"] == "glm_moe_dsa")
    found = {not layers[index].self_attn.indexer_rope_emb.is_neox_style for index in built}
    print("indexers rotate interleaved:", *found)
    if found - {interleave}:
        yield f"indexers rotate interleaved: should be {interleave}, vLLM has {not interleave}"
    routers = Counter()
    for mlp in (layer.mlp for layer in layers.values() if hasattr(layer.mlp, "gate")):
        bias = "no" if mlp.gate.e_score_correction_bias is None else "a"
        routers[f"{mlp.experts.router.scoring_func}, {bias} correction bias"] += 1
    print("routers:", dict(routers))
    yield from (f"{count} routers: {name}" for name, count in routers.items() if name != "sigmoid, a correction bias")


def check_weights(model: Any, config: Any, depth: int, *, mtp: bool) -> Iterator[str]:
    """Load, and tell what was not filled and what was not taken."""
    sizes: dict[str, int] = {}  # of the tensors handed over so far
    loader = vllm("model_executor.model_loader.default_loader").DefaultModelLoader(config.load_config)
    weights = loader.get_all_weights(config.model_config, model)

    def numbered() -> Iterator[tuple[str, torch.Tensor]]:
        for number, (name, tensor) in enumerate(weights, start=1):
            sizes[name] = tensor.numel()
            yield name, torch.full(tensor.shape, float(number))

    loader.get_all_weights = lambda *_: numbered()
    for parameter in model.parameters():
        parameter.data = torch.full(parameter.shape, float("nan"))  # float32 holds the numbers exactly
    try:
        with vllm("config").set_current_vllm_config(config), torch.device("cpu"):
            loader.load_weights(model, config.model_config)
    except (KeyError, ValueError, RuntimeError, AssertionError) as error:
        yield f"vLLM refuses the weights: {type(error).__name__}: {error}"
        if next(weights, None) is not None:
            yield f"it stopped at {list(sizes)[-1]}"
            return
    taken = torch.zeros(len(sizes) + 1, dtype=torch.long)
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten()
        num_unfilled = int(values.isnan().sum())
        if num_unfilled and not (mtp and name.endswith("shared_head.head.weight")):
            yield f"{name}: {num_unfilled} of {values.numel()} values unfilled"
        taken += values.nan_to_num().long().bincount(minlength=len(taken))
    print("tensors:", len(sizes), "parameters:", len(list(model.parameters())))
    for (name, size), num_taken in zip(sizes.items(), taken[1:].tolist()):
        in_draft = name.startswith("model.layers.") and int(name.split(".")[2]) >= depth
        if in_draft == mtp and num_taken < size:
            yield f"{name}: {size - num_taken} of {size} values not taken"


def main() -> int:
    """Check one folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a checkpoint: config.json and safetensors")
    parser.add_argument("--mtp", action="store_true", help="the draft made of the prediction layer")
    parser.add_argument("--override", type=json.loads, default={}, help="as vLLM's --hf-overrides", metavar="JSON")
    args = parser.parse_args()
    said = json.loads((args.folder / "config.json").read_text(encoding="utf-8"))
    if any(key in args.override for key in PLAN_KEYS):  # a plan given here goes before the folder's
        said = {key: value for key, value in said.items() if key not in PLAN_KEYS}
    said |= args.override
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {
            "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_CACHE_ROOT": scratch, "VLLM_CONFIG_ROOT": scratch, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "",
        }  # fmt: skip
        stub_gpu()
        model = build(config := configure(args.folder, args.override, mtp=args.mtp), Path(scratch))
        faults = list(check_layers(model, said, mtp=args.mtp))
        faults += check_weights(model, config, said["num_hidden_layers"], mtp=args.mtp)
    print(*(f"error: {fault}" for fault in faults), "FAILED" if faults else "fine", sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
