"""Makes the fixtures of embeddings: tiny random encoders and a decoder that embeds, and the vectors that they must give.

    python embeddings.py --seed 1 --out ../../crates/dacapo-lm/tests/fixtures/embeddings

Each fixture is a folder: a checkpoint (config.json, model.safetensors and tokenizer, or model.gguf) and reference.safetensors with
    tokens   I32 [37]    token ids
    mean, cls, last  F32 [D]   the states of the last layer, pooled and scaled to a length of 1: transformers in f32 on exactly dequantized weights
    text.0 .. text.N I32  the ids of the texts of texts.json, with the tokens around a text
index.json lists the fixtures with the pooling that their files name. The same seed gives the same bytes."""

import argparse
import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Ggml
from gguf import quants
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import models_tokenizer

TEXTS = ["The cat sat on the mat.", "Héllo, WORLD! unknowable", "", "  tabs\tand\nlines, don't — 東京 42", "[MASK] of sand"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + [c for c in "abcdefghijklmnopqrstuvwxyz0123456789.,!'-"] + \
    ["##" + c for c in "abcdefghijklmnopqrstuvwxyz0123456789"] + ["the", "cat", "sat", "on", "mat", "hello", "world", "un", "##know", "##able", "and", "tab",
                                                                 "line", "東", "京", "sand", "of"]
PARTS = {"attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v", "attention.output.dense": "attn_output",
         "attention.output.LayerNorm": "attn_output_norm", "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm"}
GLOBAL = {"embeddings.word_embeddings": "token_embd", "embeddings.position_embeddings": "position_embd",
          "embeddings.token_type_embeddings": "token_types", "embeddings.LayerNorm": "token_embd_norm"}
FIXTURES = {
    "bert-f16": dict(kind="bert", dtype="float16", pooling="mean"),
    "bert-cls-f32": dict(kind="bert", dtype="float32", pooling="cls", prefix="bert."),
    "gguf-bert-q8_0": dict(kind="bert", gguf="Q8_0", pooling="mean"),
    "gguf-bert-f16": dict(kind="bert", gguf="F16", pooling="cls"),
    "qwen3-bf16": dict(kind="qwen3", dtype="bfloat16", pooling="last"),
}


def bert_tokenizer():
    t = Tokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    t.add_special_tokens(WORDS[:5])
    return t


def model(spec):
    """A random model in f32, its tokenizer."""
    if spec["kind"] == "bert":
        c = transformers.BertConfig(vocab_size=len(WORDS), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
                                    max_position_embeddings=64)
        m = transformers.BertModel(c, add_pooling_layer=False)
        return m, bert_tokenizer()
    c = transformers.Qwen3Config(vocab_size=models_tokenizer.SIZE, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                                 head_dim=32, intermediate_size=96, max_position_embeddings=512, tie_word_embeddings=True)
    return transformers.Qwen3Model(c), None


def draw(m, rng):
    for name, p in m.named_parameters():
        x = rng.standard_normal(p.shape)
        if "norm" in name.lower():
            x = 0.2 * x + (1 if name.endswith("weight") else 0)
        elif p.ndim == 2:
            x = x * (0.7 if "embed" in name else 1.5 / p.shape[1] ** 0.5)
        else:
            x = 0.2 * x
        p.data = torch.from_numpy(x.astype(np.float32))


def gguf_name(name):
    module, leaf = name.rsplit(".", 1)
    if module in GLOBAL:
        return f"{GLOBAL[module]}.{leaf}"
    _, _, layer, part = module.split(".", 3)
    return f"blk.{layer}.{PARTS[part]}.{leaf}"


def write_gguf(path, m, spec):
    c = m.config
    w = gguf.GGUFWriter(path, "bert")
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(c.num_hidden_layers)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_layer_norm_eps(c.layer_norm_eps)
    w.add_causal_attention(False)
    w.add_pooling_type({"mean": gguf.PoolingType.MEAN, "cls": gguf.PoolingType.CLS}[spec["pooling"]])
    w.add_token_type_count(c.type_vocab_size)
    # As llama.cpp's converter: a mark before what begins a word, none before what goes on with one.
    w.add_tokenizer_model("bert")
    w.add_tokenizer_pre("default")
    w.add_token_list([t if t.startswith("[") and t.endswith("]") else t[2:] if t.startswith("##") else "\u2581" + t for t in WORDS])
    w.add_token_types([gguf.TokenType.CONTROL] * 5 + [gguf.TokenType.NORMAL] * (len(WORDS) - 5))
    for role, token in (("unk", "[UNK]"), ("sep", "[SEP]"), ("pad", "[PAD]"), ("bos", "[CLS]"), ("mask", "[MASK]")):
        getattr(w, f"add_{role}_token_id")(WORDS.index(token))
    for name, value in m.state_dict().items():
        value, kind = value.numpy(), Ggml[spec["gguf"]]
        if value.ndim == 1 or "position" in name or "token_type" in name:
            kind = Ggml.F32
        if kind == Ggml.F32:
            w.add_tensor(gguf_name(name), value)
        elif kind == Ggml.F16:
            w.add_tensor(gguf_name(name), value.astype(np.float16))
        else:
            w.add_tensor(gguf_name(name), quants.quantize(value, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    found = {t.name: t for t in gguf.GGUFReader(path).tensors}
    return {n: torch.from_numpy(quants.dequantize(found[gguf_name(n)].data, found[gguf_name(n)].tensor_type).astype(np.float32).reshape(v.shape).copy())
            for n, v in m.state_dict().items()}


def write_folder(folder, m, tokenizer, spec):
    dtype = getattr(torch, spec["dtype"])
    config = json.loads(m.config.to_json_string(use_diff=False))
    keep = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
            "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "rms_norm_eps", "hidden_act", "rope_parameters", "tie_word_embeddings")
    config = {k: config[k] for k in keep if config.get(k) is not None} | {"architectures": [type(m).__name__]}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    stored = {k: v.to(dtype).contiguous() for k, v in m.state_dict().items() if "position_ids" not in k}
    save_file({spec.get("prefix", "") + k: v for k, v in stored.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "1_Pooling").mkdir()
    modes = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "last": "pooling_mode_lasttoken"}
    (folder / "1_Pooling/config.json").write_text(json.dumps({modes[k]: k == spec["pooling"] for k in modes}) + "\n")
    if tokenizer is None:
        models_tokenizer.write(folder)
    else:
        (folder / "tokenizer.json").write_text(tokenizer.to_str() + "\n")
    return {k: v.float() for k, v in stored.items()}


@torch.no_grad()
def attempt(folder, spec, rng):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    m, tokenizer = model(spec)
    m = m.eval()
    draw(m, rng)
    exact = write_gguf(folder / "model.gguf", m, spec) if "gguf" in spec else write_folder(folder, m, tokenizer, spec)
    m.load_state_dict(exact)
    tokens = rng.integers(5, m.config.vocab_size, 37)
    states = m(torch.tensor(tokens[None])).last_hidden_state[0]
    unit = lambda x: (x / x.norm()).contiguous()
    out = {"tokens": torch.tensor(tokens, dtype=torch.int32), "mean": unit(states.mean(0)), "cls": unit(states[0]), "last": unit(states[-1])}
    if tokenizer is not None:
        out |= {f"text.{i}": torch.tensor(tokenizer.encode(t).ids, dtype=torch.int32) for i, t in enumerate(TEXTS)}
    save_file(out, folder / "reference.safetensors")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seed", type=int, required=True)
    p.add_argument("--out", required=True, type=Path)
    a = p.parse_args()
    transformers.logging.set_verbosity_error()
    for number, (name, spec) in enumerate(FIXTURES.items()):
        attempt(a.out / name, spec, np.random.default_rng([a.seed, number]))
        print(f"{name:20s} {sum(f.stat().st_size for f in (a.out / name).rglob('*') if f.is_file()) / 1e3:6.0f} kB")
    (a.out / "texts.json").write_text(json.dumps(TEXTS, ensure_ascii=False, indent=1) + "\n")
    index = [{"name": n, "file": "model.gguf" if "gguf" in s else "", "quantized": s.get("gguf") == "Q8_0", "pooling": s["pooling"]}
             for n, s in FIXTURES.items()]
    (a.out / "index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main()
