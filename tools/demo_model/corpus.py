"""The training text: generated in seeded chunks, tokenized, with a weight for each token, and the tokenizer trained on it."""

import json
import multiprocessing
import os
import random

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from chats import chat
from stories import Story

VOCABULARY = 1536
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Qwen2's pattern: every digit by itself.
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEMPLATE = ("{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{%- endfor %}"
            "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}")
CHUNK = 500  # documents


def story_document(rng):
    """[(text, weight)]: a story is learned as a whole."""
    return [(Story(rng).text + "<|endoftext|>", 1)]


def chat_document(rng):
    """[(text, weight)]: only what the assistant says is learned."""
    system, turns = chat(rng)
    parts = [(f"<|im_start|>system\n{system}<|im_end|>\n", 0)] if system else []
    for user, answer in turns:
        parts.append((f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n", 0))
        parts.append((answer + "<|im_end|>", 1))
        parts.append(("\n", 0))
    return parts + [("<|endoftext|>", 0)]


def chunk(job):
    kind, seed, index = job
    rng = random.Random(f"{kind} {seed} {index}")
    make = story_document if kind == "story" else chat_document
    return [make(rng) for _ in range(CHUNK)]


def train_tokenizer(seed, chunks=40):
    """Byte-level BPE on a sample of the text, digits single, ChatML markers as special tokens at the end of the vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)

    def texts():
        for kind in ("story", "chat"):
            for index in range(chunks):
                for document in chunk((kind, f"tokenizer {seed}", index)):
                    for text, _ in document:
                        for marker in SPECIAL:
                            text = text.replace(marker, "\n")
                        yield text

    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - len(SPECIAL), initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.add_special_tokens(SPECIAL)
    assert tokenizer.get_vocab_size() == VOCABULARY, tokenizer.get_vocab_size()
    return tokenizer


def save_tokenizer(tokenizer, folder):
    os.makedirs(folder, exist_ok=True)
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    added = {str(tokenizer.token_to_id(t)): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
             for t in SPECIAL}
    config = {"add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added, "additional_special_tokens": SPECIAL[1:],
              "bos_token": None, "chat_template": TEMPLATE, "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
              "model_max_length": 1024, "pad_token": "<|endoftext|>", "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None}
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump(config, f, indent=2)
        f.write("\n")
    with open(os.path.join(folder, "chat_template.jinja"), "w") as f:
        f.write(TEMPLATE)
    ids = [tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")]
    with open(os.path.join(folder, "generation_config.json"), "w") as f:
        json.dump({"do_sample": True, "eos_token_id": ids, "pad_token_id": ids[1], "temperature": 0.7, "top_k": 40, "top_p": 0.95}, f, indent=2)
        f.write("\n")


_TOKENIZER = None


def _start(text):
    global _TOKENIZER
    _TOKENIZER = Tokenizer.from_str(text)


def _encode(job):
    documents = chunk(job)
    flat = [part for document in documents for part in document]
    ids = [e.ids for e in _TOKENIZER.encode_batch_fast([text for text, _ in flat])]
    tokens = np.array([t for part in ids for t in part], dtype=np.uint16)
    weights = np.repeat(np.array([w for _, w in flat], dtype=np.uint8), [len(part) for part in ids])
    starts, position, at = [], 0, 0
    for document in documents:
        starts.append(position)
        position += sum(len(part) for part in ids[at:at + len(document)])
        at += len(document)
    return tokens, weights, np.array(starts, dtype=np.int64)


def build(tokenizer, seed, stories, chats, processes):
    """(tokens uint16, weights uint8, starts of stories, starts of chats) of the whole text, in shuffled chunks of documents."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    jobs = [("story", seed, i) for i in range(stories // CHUNK)] + [("chat", seed, i) for i in range(chats // CHUNK)]
    random.Random(seed).shuffle(jobs)
    with multiprocessing.get_context("fork").Pool(processes, _start, (tokenizer.to_str(),)) as pool:
        parts = pool.map(_encode, jobs, chunksize=4)
    offsets = np.cumsum([0] + [len(tokens) for tokens, _, _ in parts])
    starts = {kind: np.concatenate([s + o for (k, _, _), (_, _, s), o in zip(jobs, parts, offsets) if k == kind]) for kind in ("story", "chat")}
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), starts["story"], starts["chat"]
