#!/usr/bin/env python3
"""Makes crates/dacapo-lm/tests/fixtures/tokenizers: small tokenizers and what they give for hard texts.

    python tools/oracles/tokenizer_cases.py

Needs: tokenizers, transformers, gguf. Four kinds, each in <kind>/:
  qwen2   byte-level BPE, one digit a token, NFC, no start token
  llama3  byte-level BPE, whole words before merges, start token by the post-processor
  gemma   SentencePiece-like BPE with byte fallback, no space prefix
  llama2  the same with a space put before texts and taken off after decoding
Files: tokenizer.json, tokenizer_config.json, config.json and the same vocabulary as vocab.gguf; cases.json holds
what transformers gives: ids, ids with special tokens, decoded texts, each token alone. Runs repeat byte for byte.
"""
import json
import os
import random

import gguf
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../crates/dacapo-lm/tests/fixtures/tokenizers")
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS = {"qwen2": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST,
         "llama3": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST}
SPECIAL = {"qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
           "llama3": ["<|begin_of_text|>", "<|eot_id|>"],
           "gemma": ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"],
           "llama2": ["<unk>", "<s>", "</s>"]}
CONFIG = {"qwen2": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
          "llama3": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
          "gemma": {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"},
          "llama2": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}}
CORPUS = ["The ferry leaves the harbour at noon and returns before dark.", "Every voice enters in its turn, then all begin again.",
          "She hadn't heard what they'd said; we'll ask again, he's sure.", "let total = items.iter().map(|x| x * 2).sum();",
          "Größe, naïve, façade, señor, čaj, Ελλάδα, погода, 今日は雨です。", "1 22 333 4444 55555 6.66 7e8", "a list: [1, 2, 3], a map: {\"k\": null}",
          "    four spaces\n\ta tab\n\n\nand lines"]
TEXTS = ["", " ", "   ", "Hello, world", " leading", "trailing  ", "a  b   c", "tab\there", "\n\n", "\r\n x \n", "it's HE'LL We'd", "1234567 12 3.5e-7",
         "cafe\u0301 caf\u00e9", "\u212b \ufb01", "\u4f60\u597d", "\u0645\u0631\u062d\u0628\u0627", "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467",
         "\u2581mark", "\u00a0nbsp\u3000wide", "\x00\x7f", "<0x41> <0xZZ>", "fn main() {\n    loop {}\n}\n", "x" * 33, " " * 9 + "y", "\u0301",
         "{eos}", "a{eos}b", " {eos} ", "{bos}x", "<|im_start|>user\nhi<|im_end|>\n", "<start_of_turn>user<end_of_turn>", "<unk>", "< eos >", "The voice begins again."]


def train(tokenizer, size, alphabet=()):
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=sorted(alphabet), show_progress=False)
    tokenizer.train_from_iterator(CORPUS * 2, trainer)
    return json.loads(tokenizer.to_str())["model"]


def added(names, first):
    return [{"id": first + i, "content": n, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
            for i, n in enumerate(names)]


def start(token, index):
    return processors.TemplateProcessing(single=f"{token} $A", pair=f"{token} $A {token}:1 $B:1", special_tokens=[(token, index)])


def byte_level(kind):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(WORDS[kind]), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    if kind == "qwen2":
        t.normalizer = normalizers.NFC()
    t.decoder = decoders.ByteLevel()
    size = 330
    model = train(t, size, pre_tokenizers.ByteLevel.alphabet())
    assert len(model["vocab"]) == size
    j = json.loads(t.to_str())
    j["model"]["ignore_merges"] = kind == "llama3"
    j["added_tokens"] = added(SPECIAL[kind], size)
    t = Tokenizer.from_str(json.dumps(j))
    if kind == "llama3":
        t.post_processor = start("<|begin_of_text|>", size)
    return t


def sentence_piece(kind):
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.Replace(" ", "\u2581")
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    model = train(t, 150)
    learned = [n for n, _ in sorted(model["vocab"].items(), key=lambda kv: kv[1])]
    names = SPECIAL[kind] + [f"<0x{b:02X}>" for b in range(256)] + [n for n in learned if n not in SPECIAL[kind]]
    j = json.loads(t.to_str())
    j["pre_tokenizer"] = None
    j["model"].update(vocab={n: i for i, n in enumerate(names)}, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    j["added_tokens"] = added(SPECIAL[kind], 0)
    t = Tokenizer.from_str(json.dumps(j))
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    if kind == "llama2":
        t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
        steps.append(decoders.Strip(" ", 1, 0))
    t.decoder = decoders.Sequence(steps)
    bos = CONFIG[kind]["bos_token"]
    t.post_processor = start(bos, names.index(bos))
    return t


def write_gguf(kind, folder, tokenizer):
    j = json.loads(tokenizer.to_str())
    special = {a["content"]: a["id"] for a in j["added_tokens"]}
    names = [n for n, _ in sorted({**j["model"]["vocab"], **special}.items(), key=lambda kv: kv[1])]
    sp = kind in ("gemma", "llama2")
    types = gguf.TokenType

    def kind_of(name):
        if name == "<unk>":
            return types.UNKNOWN
        if name in special:
            return types.CONTROL
        return types.BYTE if sp and len(name) == 6 and name.startswith("<0x") else types.NORMAL

    w = gguf.GGUFWriter(os.path.join(folder, "vocab.gguf"), "llama")
    w.add_tokenizer_model("llama" if sp else "gpt2")
    if not sp:
        w.add_tokenizer_pre("qwen2" if kind == "qwen2" else "llama-bpe")
    w.add_token_list(names)
    if sp:
        # SentencePiece merges by score: the negated rank of the first merge that makes the token.
        rank = {}
        for i, (a, b) in enumerate(j["model"]["merges"]):
            rank.setdefault(a + b, -float(i))
        w.add_token_scores([rank.get(n, -1e6 if kind_of(n) == types.NORMAL else 0.0) for n in names])
        w.add_add_space_prefix(kind == "llama2")
    else:
        w.add_token_merges([" ".join(m) for m in j["model"]["merges"]])
    w.add_token_types([int(kind_of(n)) for n in names])
    for key, write in (("bos_token", w.add_bos_token_id), ("eos_token", w.add_eos_token_id), ("unk_token", w.add_unk_token_id)):
        if key in CONFIG[kind]:
            write(names.index(CONFIG[kind][key]))
    w.add_add_bos_token(kind != "qwen2")
    w.add_chat_template("{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}")
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    r = random.Random(7)
    pool = "".join(CORPUS) + "\U0001f600\u200d\u0301\u4f60 \n\t"
    texts = TEXTS + ["".join(r.choice(pool) for _ in range(r.randint(1, 50))) for _ in range(20)]
    for kind in SPECIAL:
        folder = os.path.join(OUT, kind)
        os.makedirs(folder, exist_ok=True)
        t = byte_level(kind) if kind in WORDS else sentence_piece(kind)
        t.save(os.path.join(folder, "tokenizer.json"), pretty=False)
        config = {**CONFIG[kind], "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        json.dump(config, open(os.path.join(folder, "tokenizer_config.json"), "w"), indent=1)
        json.dump({"model_type": "llama"}, open(os.path.join(folder, "config.json"), "w"))
        write_gguf(kind, folder, t)
        hf = transformers.AutoTokenizer.from_pretrained(folder)
        cases = []
        for text in texts:
            text = text.replace("{eos}", hf.eos_token).replace("{bos}", hf.bos_token or "")
            ids = hf(text, add_special_tokens=False)["input_ids"]
            cases.append({"text": text, "ids": ids, "ids_special": hf(text)["input_ids"], "decode": hf.decode(ids),
                          "decode_skip_special": hf.decode(ids, skip_special_tokens=True)})
        each = [hf.decode([i]) for i in range(len(hf))]
        out = {"vocab_size": len(hf), "bos": hf.bos_token_id, "eos": hf.eos_token_id, "cases": cases, "decode_each_id": each}
        json.dump(out, open(os.path.join(folder, "cases.json"), "w"), indent=None, separators=(",", ":"))
        print(kind, len(hf), "tokens,", len(cases), "cases")


if __name__ == "__main__":
    main()
