"""The tokenizer of the whole-model fixtures: bytes, a few merges, and three special tokens."""

import json

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

MERGES = [("Ġ", "t"), ("h", "e"), ("Ġ", "a"), ("i", "n"), ("r", "e"), ("o", "n"), ("Ġt", "he"), ("e", "r"), ("Ġ", "s"), ("a", "t"), ("Ġ", "w"),
          ("e", "n"), ("o", "u")]
SPECIAL = ["<|start|>", "<|end|>", "<|pad|>"]
TEXT = 256 + len(MERGES)
"""Ids below are text."""
BOS, EOS, SIZE = TEXT, TEXT + 1, TEXT + len(SPECIAL)


def tokens():
    """Names by id."""
    return sorted(pre_tokenizers.ByteLevel.alphabet()) + ["".join(m) for m in MERGES] + SPECIAL


def write(folder):
    vocabulary = {t: i for i, t in enumerate(tokens()[:TEXT])}
    t = Tokenizer(models.BPE(vocab=vocabulary, merges=MERGES))
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    with open(folder / "tokenizer.json", "w") as f:
        f.write(t.to_str() + "\n")
    with open(folder / "tokenizer_config.json", "w") as f:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[0], "eos_token": SPECIAL[1], "pad_token": SPECIAL[2]}, f)
        f.write("\n")
