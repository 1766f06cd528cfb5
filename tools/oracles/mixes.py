#!/usr/bin/env python3
"""Which type each tensor of a GGUF file gets: by `dacapo quantize`, and by llama.cpp from the same values.

    python tools/oracles/mixes.py target/release/dacapo

Needs what `models.py` does, and llama-cpp-python. The models are random, of few layers and wide enough for blocks of 256.
"""
import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

import models
import models_delta

FILE_TYPES = dict(Q3_K_S=11, Q3_K_M=12, Q3_K_L=13, Q4_K_S=14, Q4_K_M=15, Q5_K_S=16, Q5_K_M=17, MXFP4_MOE=38)
WIDE = dict(hidden_size=256, intermediate_size=256, num_hidden_layers=16)
EXPERTS = dict(moe_intermediate_size=256)
SHARED = dict(EXPERTS, shared_expert_intermediate_size=256)
NETS = dict(num_hidden_layers=8, full_attention_interval=2, layer_types=["linear_attention", "full_attention"] * 4, linear_key_head_dim=64,
            linear_value_head_dim=64)
MODELS = {
    "llama": dict(num_attention_heads=8),
    "qwen3": dict(tie_word_embeddings=True),
    "phi3": dict(num_attention_heads=16, num_key_value_heads=16),
    "mixtral": dict(num_attention_heads=8, num_local_experts=8),
    "qwen2_moe": SHARED,
    "qwen3_moe": EXPERTS,
    "gpt_oss": {},
    "qwen3_next": NETS | SHARED | models_delta.EXPERTS,
    "qwen3_5_moe_text": NETS | SHARED | dict(nested=True),
}


def types(path):
    return {t.name: t.tensor_type.name for t in gguf.GGUFReader(path).tensors}


def quantize(*arguments):
    subprocess.run([sys.argv[1], "quantize", *map(str, arguments), "--force"], check=True, capture_output=True)


def main():
    for kind, changes in MODELS.items():
        spec = models.hf(kind, "bfloat16", **WIDE | changes)
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "hf").mkdir()
            models.write_hf(folder / "hf", spec, models.draw(spec["config"], np.random.default_rng(0)))
            quantize(folder / "hf", folder / "plain.gguf", "--type", "F32")
            for name, number in FILE_TYPES.items():
                quantize(folder / "hf", folder / "found.gguf", "--type", name)
                parameters = llama_cpp.llama_model_quantize_default_params()
                parameters.ftype = number
                paths = [str(folder / file).encode() for file in ("plain.gguf", "expected.gguf")]
                assert llama_cpp.llama_model_quantize(*paths, ctypes.byref(parameters)) == 0, (kind, name)
                found, expected = types(folder / "found.gguf"), types(folder / "expected.gguf")
                differ = {tensor: (found.get(tensor), type) for tensor, type in expected.items() if found.get(tensor) != type}
                assert not differ and len(found) == len(expected), (kind, name, differ)
        print(kind, len(found), "tensors alike in", len(FILE_TYPES), "mixes", flush=True)


if __name__ == "__main__":
    main()
