#!/usr/bin/env python3
"""What `dacapo quantize` writes, read by others: MLX, mlx-lm, gguf-py and, where it is installed, llama.cpp.

    python tools/oracles/converted.py target/release/dacapo [NAME ...]

Needs mlx, mlx-lm, gguf, numpy, safetensors; llama-cpp-python if there. Converts the tiny checkpoints of the tests and the demo
model. Codes must be those of MLX's own quantizer, tokens of a text the same, and logits near those of Dacapo with
activations that are not quantized.
"""
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
from mlx_lm import load
from mlx_lm.utils import _get_classes
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "crates/dacapo-lm/tests/fixtures/models"
# Folders that GGUF's metadata cannot describe: their layers are none of a published model's.
UNDESCRIBED = ("ministral", "gemma2", "gemma3", "smollm3")
# Files that llama.cpp does not load: it knows Qwen3-MoE with experts in every layer, and Qwen3-Next with some.
UNLOADED = ("hf-qwen3-moe-bf16", "gguf-qwen3-moe-q4_0", "hf-qwen3-next-f16", "gguf-qwen3-next-q4_0")
ROUTED = ("mixtral", "moe", "gpt-oss", "next", "qwen3_5")
TEXT = "Once upon a time, there were 12 cats."


def run(*arguments):
    done = subprocess.run([DACAPO, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


def logits(model, folder):
    out = folder / "logits.safetensors"
    run("logits", "--model", model, "--prompt", TEXT, "--out", out, "--exact", "--device", "cpu")
    found = load_file(out)
    return found["tokens"], found["logits"]


def unstretched(source, folder):
    """A copy without YaRN."""
    out = folder / source.name
    shutil.copytree(source, out)
    config = json.loads((out / "config.json").read_text())
    theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
    config = {k: v for k, v in config.items() if not k.startswith("rope")} | {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}
    (out / "config.json").write_text(json.dumps(config))
    return out


def is_routed(name):
    """Whether the model has experts or delta nets."""
    return any(part in name for part in ROUTED)


def difference(found, expected):
    centred = [a - a.mean(-1, keepdims=True) for a in (found, expected)]
    return float(np.abs(centred[0] - centred[1]).max() / centred[1].std())


def arranged(before, out):
    """The tensors of Hugging Face's folder as mlx-lm's model has them, where that are others: experts together, norms whole."""
    config = json.loads((out / "config.json").read_text())
    if not any(".experts." in name or ".linear_attn." in name for name in before):
        return before
    if config["model_type"] == "qwen3_next" and not config["num_experts"]:
        # mlx-lm takes only folders of its own.
        return {}
    # mlx-lm reads gpt-oss's experts as 4-bit floats only, and those are rows; others are columns.
    columns = [name for name in before if name.endswith(("experts.gate_up_proj", "experts.down_proj")) and config["model_type"] == "gpt_oss"]
    turned = before | {name: before[name].swapaxes(1, 2) for name in columns}
    classes = _get_classes(config)
    after = classes[0](classes[1].from_dict(config)).sanitize(turned)
    after = {name.removeprefix("language_model."): value for name, value in after.items()}
    if columns:
        after = {f"{k}.weight" if k.endswith(("experts.gate_proj", "experts.up_proj", "experts.down_proj")) else k: v for k, v in after.items()}
    scaled = [name.removesuffix(".scales") for name in after if name.endswith(".scales")]
    for module in scaled:
        after[f"{module}.weight"] = mx.dequantize(after[f"{module}.weight"], after.pop(f"{module}.scales"), group_size=32, bits=4, mode="mxfp4")
    return after


def check_codes(source, out, bits, group):
    """Bytes of a folder made of plain ones are those of MLX."""
    before = {k: v for p in sorted(source.glob("*.safetensors")) if "reference" not in p.name for k, v in mx.load(str(p)).items()}
    before = arranged(before, out)
    after = mx.load(str(out / "model.safetensors"))
    for name, value in before.items():
        module = name.removesuffix(".weight")
        if f"{module}.scales" not in after:
            assert name in after and mx.array_equal(value, after[name]), name
            continue
        for part, array in zip(("weight", "scales", "biases"), mx.quantize(value, group_size=group, bits=bits)):
            assert after[f"{module}.{part}"].dtype == array.dtype and mx.array_equal(after[f"{module}.{part}"], array), (name, part)


def check_folder(source, bits, group, folder, plain):
    out = folder / "mlx"
    run("quantize", source, out, "--bits", bits, "--group", group, "--force")
    if plain:
        check_codes(source, out, bits, group)
    if "ministral" in str(source):
        # mlx-lm does not know it.
        return None
    model, tokenizer = load(str(out))
    tokens, expected = logits(out, folder)
    ids = tokenizer.encode(TEXT)
    assert list(ids) == list(tokens), (ids, tokens)
    # Widened, or MLX would add up in the type of the weights.
    model.set_dtype(mx.float32)
    found = np.array(model(mx.array([ids])).astype(mx.float32))[0]
    error = difference(found, expected)
    # mlx-lm leaves the windows of mistral and gemma2 out, has only the long factors of LongRoPE, and rounds the range of YaRN.
    assert error < 2e-3 or any(part in str(source) for part in ("mistral", "gemma2", "phi", "gguf-gpt-oss")), error
    return error


def check_gguf(source, kind, folder):
    out = folder / "out.gguf"
    run("quantize", source, out, "--type", kind, "--force")
    reader = gguf.GGUFReader(out)
    for tensor in reader.tensors:
        assert np.isfinite(gguf.quants.dequantize(tensor.data, tensor.tensor_type)).all(), tensor.name
    try:
        import llama_cpp
    except ImportError:
        return None
    if "phi" in str(source) or any(name in str(source) for name in UNLOADED):
        # Its contexts are always long, and a file named so must have the tokens of Phi-3.
        return None
    model = llama_cpp.Llama(str(out), n_ctx=128, logits_all=True, n_threads=2, verbose=False, type_k=0, type_v=0)
    tokens, expected = logits(out, folder)
    ids = model.tokenize(TEXT.encode(), add_bos=True, special=True)
    assert list(ids) == list(tokens), (ids, tokens)
    model.eval(ids)
    error = difference(np.array(model.scores[:len(ids)], np.float32), expected)
    # Nor does llama.cpp have them, and it rounds that range too. Its activations in int8 send tokens to other experts.
    limit = 5e-3 if kind == "F32" else 4 if is_routed(str(source)) else 0.5
    assert error < limit or any(part in str(source) for part in ("mistral", "gguf-gpt-oss")), (kind, error)
    return error


def main(wanted):
    names = [f["name"] for f in json.loads((MODELS / "index.json").read_text())]
    sources = [(name, MODELS / name) for name in names if name.split("-")[0] in ("hf", "mlx")]
    sources += [(name, MODELS / name / "model.gguf") for name in names if name.startswith("gguf")]
    sources += [("demo", ROOT / "models/demo/mlx"), ("demo-gguf", ROOT / "models/demo/demo-q4_0.gguf")]
    with tempfile.TemporaryDirectory() as folder:
        for name, source in sources:
            if wanted and name not in wanted:
                continue
            if "gpt-oss" in name and source.is_dir():
                source = unstretched(source, Path(folder))
            found = [check_folder(source, bits, 32, Path(folder), name.startswith("hf") and not name.endswith("fp8")) for bits in (4, 8)]
            if source.suffix == ".gguf" or not any(part in name for part in UNDESCRIBED):
                kinds = ("F32", "Q8_0", "Q4_K_M") if is_routed(name) else ("Q8_0", "Q4_K_M")
                kinds += ("MXFP4_MOE",) if "gpt-oss" in name else ()
                found += [check_gguf(source, kind, Path(folder)) for kind in kinds]
            print(name, *["-" if e is None else f"{e:.1e}" for e in found], flush=True)


if __name__ == "__main__":
    DACAPO = sys.argv[1]
    main(sys.argv[2:])
