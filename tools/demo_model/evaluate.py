"""Measures the shipped files, and writes the fixtures of the tests.

    python evaluate.py --model ../../models/demo [--write]

Each export is dequantized exactly and run by transformers in f32. Without --write, the figures are compared with eval/expected.json and a
difference ends the program with an error; with it, the files under eval/ are made anew.
"""

import argparse
import json
import math
import os
import random
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gguf
import torch
import transformers
from safetensors.torch import load_file, save_file

import chats
from export import gguf_name
from stories import Story

WINDOW = 256
SEED = "evaluation"
# Chosen so that no greedy step is a near tie: stories have many equally likely ways to go on.
RAW_PROMPTS = ["Once upon a time, a", "Long ago"]
CHAT_PROMPTS = ["What is 7 + 15?", "Tell me a story about a dragon.", "Who are you?"]


def unpack_mlx(t, path):
    """The weight of an affine-quantized module as f32: codes are 4 bits each, the lowest first; w = scale * code + bias."""
    words = t[path + ".weight"].view(torch.int32)
    codes = torch.stack([(words >> shift) & 15 for shift in range(0, 32, 4)], dim=-1).flatten(1)
    scales, biases = t[path + ".scales"].float(), t[path + ".biases"].float()
    return (codes.view(*scales.shape, -1) * scales[..., None] + biases[..., None]).flatten(1)


def load_mlx(folder):
    t = load_file(os.path.join(folder, "mlx", "model.safetensors"))
    return {n: unpack_mlx(t, n.removesuffix(".weight")) if n.removesuffix(".weight") + ".scales" in t else v.float()
            for n, v in t.items() if n.endswith(".weight")}


def load_gguf(folder):
    names = {gguf_name(n): n for n in load_mlx(folder)}
    reader = gguf.GGUFReader(os.path.join(folder, "demo-q4_0.gguf"))
    return {names[t.name]: torch.from_numpy(gguf.quants.dequantize(t.data, t.tensor_type).reshape(tuple(reversed(t.shape.tolist()))).copy())
            for t in reader.tensors}


def build(folder, state):
    with open(os.path.join(folder, "mlx", "config.json")) as f:
        c = json.load(f)
    for key in ("quantization", "quantization_config", "torch_dtype"):
        c.pop(key)
    c = transformers.Qwen3Config(**c)
    c._attn_implementation = "eager"
    m = transformers.Qwen3ForCausalLM(c).float().eval()
    missing, unexpected = m.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    m.tie_weights()
    return m


class Runner:
    def __init__(self, folder, model):
        self.model = model
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(os.path.join(folder, "mlx"))
        self.ends = [self.tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|endoftext|>")]

    def chat_ids(self, messages):
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return self.tokenizer(text)["input_ids"]

    @torch.no_grad()
    def greedy(self, prompts, most):
        """The greedy continuation of each prompt (lists of ids), up to and with an end token."""
        results = [None] * len(prompts)
        by_length = {}
        for i, ids in enumerate(prompts):
            by_length.setdefault(len(ids), []).append(i)
        for group in by_length.values():
            x = torch.tensor([prompts[i] for i in group])
            out = [[] for _ in group]
            cache, done = None, [False] * len(group)
            while not all(done) and len(out[0]) < most:
                y = self.model(x, past_key_values=cache, use_cache=True)
                cache, x = y.past_key_values, y.logits[:, -1:].argmax(-1)
                for row, token in enumerate(x[:, 0].tolist()):
                    out[row].append(token)
                    done[row] = done[row] or token in self.ends
            for i, ids in zip(group, out):
                end = next((k + 1 for k, t in enumerate(ids) if t in self.ends), len(ids))
                results[i] = ids[:end]
        return results

    def answers(self, talks, most=64):
        """What the model answers to each talk (a list of messages)."""
        return [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in self.greedy([self.chat_ids(t) for t in talks], most)]

    @torch.no_grad()
    def perplexity(self, text):
        """exp of the mean negative log-likelihood: the text tokenized as a whole, cut into windows of 256 tokens (the last may be shorter), each
        run from an empty context; the first token of each window is not scored."""
        ids = self.tokenizer(text)["input_ids"]
        total, count = 0.0, 0
        for at in range(0, len(ids), WINDOW):
            window = torch.tensor(ids[at:at + WINDOW])
            if len(window) > 1:
                logits = self.model(window[None]).logits[0, :-1].double()
                total -= float(logits.log_softmax(-1).gather(1, window[1:, None]).sum())
                count += len(window) - 1
        return math.exp(total / count), len(ids), count


def user(text):
    return [{"role": "user", "content": text}]


def sums(n, seed):
    rng = random.Random(f"{SEED} {seed}")
    found = {}
    while len(found) < n:
        sign = rng.choice("+-")
        a, b = chats.pair(rng, sign, evaluation=True)
        prompt, _, number = chats.sum_turn(rng, sign, a, b)
        found.setdefault(prompt, {"prompt": prompt, "answer": int(number), "seen_in_training": not chats.held_out(a, b)})
    return list(found.values())


def right_sum(case, answer):
    return answer.rstrip(".").split(" is ")[-1] == str(case["answer"])


def questions(n):
    rng = random.Random(f"{SEED} questions")
    found = {}
    while len(found) < n:
        prompt, answer, word = chats.question_turn(rng)
        found.setdefault(prompt, {"prompt": prompt, "expected": word, "answer": answer})
    return list(found.values())


def talks(n):
    """Talks of several turns whose last answer needs the earlier ones."""
    rng = random.Random(f"{SEED} talks")
    cases = []
    for _ in range(n):
        turns = chats.name_turns(rng) if rng.random() < 0.5 else chats.running_sum(rng)
        messages = [m for question, answer in turns for m in ({"role": "user", "content": question}, {"role": "assistant", "content": answer})]
        cases.append((messages[:-1], turns[-1][1]))
    return cases


def heldout():
    rng, parts = random.Random(f"{SEED} held out"), []
    while sum(len(p) + 2 for p in parts) < 20_000:
        parts.append(Story(rng).text)
    return "\n\n".join(parts) + "\n"


def share(results):
    results = list(results)
    return round(sum(results) / len(results), 4)


@torch.no_grad()
def greedy_cases(runner):
    """Greedy continuations, each with the smallest distance between the best and the second logit on its way."""
    cases = []
    for kind, prompts in (("raw", RAW_PROMPTS), ("chat", CHAT_PROMPTS)):
        for prompt in prompts:
            ids = runner.tokenizer(prompt)["input_ids"] if kind == "raw" else runner.chat_ids(user(prompt))
            new = runner.greedy([ids], 64)[0]
            best = runner.model(torch.tensor([ids + new])).logits[0, len(ids) - 1:-1].topk(2, dim=-1).values
            cases.append({"kind": kind, "prompt": prompt, "prompt_ids": ids, "ids": new, "text": runner.tokenizer.decode(new),
                          "smallest_margin": round(float((best[:, 0] - best[:, 1]).min()), 4)})
    return cases


def measure(name, runner, files, write, folder):
    """All figures of one export."""
    figures = {}
    figures["perplexity"], figures["tokens"], figures["scored_tokens"] = runner.perplexity(files["heldout"])
    answers = runner.answers([user(c["prompt"]) for c in files["sums"]])
    figures["sums_right"] = share(right_sum(c, a) for c, a in zip(files["sums"], answers))
    wrong = [(c["prompt"], a) for c, a in zip(files["sums"], answers) if not right_sum(c, a)]
    answers = runner.answers([user(c["prompt"]) for c in files["questions"]])
    figures["questions_right"] = share(c["expected"] in a for c, a in zip(files["questions"], answers))
    wrong += [(c["prompt"], a) for c, a in zip(files["questions"], answers) if c["expected"] not in a]
    more = sums(1000, "many sums")
    answers = runner.answers([user(c["prompt"]) for c in more])
    for label, seen in (("sums_right_of_1000_seen_pairs", True), ("sums_right_of_1000_new_pairs", False)):
        figures[label] = share(right_sum(c, a) for c, a in zip(more, answers) if c["seen_in_training"] == seen)
    several = talks(200)
    answers = runner.answers([m for m, _ in several])
    figures["talks_right"] = share(a == expected for (_, expected), a in zip(several, answers))
    wrong += [(str(m[-1]["content"]), a) for (m, e), a in zip(several, answers) if a != e]
    beyond = [chats.odd_sum_turn(random.Random(f"{SEED} beyond {i}"))[:2] for i in range(200)]
    answers = runner.answers([user(prompt) for prompt, _ in beyond])
    figures["sums_beyond_the_range_right"] = share(a == expected for (_, expected), a in zip(beyond, answers))
    wrong += [(prompt, a) for (prompt, expected), a in zip(beyond, answers) if a != expected]
    figures["greedy"] = greedy_cases(runner)
    if write:
        ids = torch.tensor(runner.tokenizer(files["heldout"])["input_ids"][:32])
        with torch.no_grad():
            logits = runner.model(ids[None]).logits[0].contiguous()
        save_file({"tokens": ids.int(), "logits": logits}, os.path.join(folder, f"logits-{name}.safetensors"))
    return figures, wrong


def read_files(folder, write):
    made = {"sums.jsonl": sums(200, "sums"), "questions.jsonl": questions(150)}
    if write:
        os.makedirs(folder, exist_ok=True)
        for name, cases in made.items():
            with open(os.path.join(folder, name), "w") as f:
                f.writelines(json.dumps(c) + "\n" for c in cases)
        with open(os.path.join(folder, "heldout.txt"), "w") as f:
            f.write(heldout())
    files = {}
    for name in made:
        with open(os.path.join(folder, name)) as f:
            files[name.split(".")[0]] = [json.loads(line) for line in f]
    with open(os.path.join(folder, "heldout.txt")) as f:
        files["heldout"] = f.read()
    return files


def samples(runner):
    """Prints a few texts to be read by eye."""
    torch.manual_seed(1)
    for prompt in ["Once upon a time"] * 3 + ["One day", "The little cat", "Tom and his friend", "A dragon", "It was a dark night"]:
        ids = torch.tensor([runner.tokenizer(prompt)["input_ids"]])
        y = runner.model.generate(ids, do_sample=True, temperature=0.7, top_k=40, max_new_tokens=400, eos_token_id=runner.ends, pad_token_id=runner.ends[1])
        print(f"--- {prompt}\n{runner.tokenizer.decode(y[0])}\n")
    for prompt in ["Tell me a story about a cat.", "Tell me a story about a dragon and friendship", "hello", "who are you", "what is 7 + 15", "9+8", "Thanks!",
                   "What is the capital of France?", "What is the opposite of hot?", "count to 10", "Can you sing?", "What is 123 + 456?", "5 - 9", "What is the capital of Brazil?", "Tell me about dogs."]:
        ids = torch.tensor([runner.chat_ids(user(prompt))])
        y = runner.model.generate(ids, do_sample=False, max_new_tokens=400, eos_token_id=runner.ends, pad_token_id=runner.ends[1])
        print(f"> {prompt}\n{runner.tokenizer.decode(y[0, ids.shape[1]:], skip_special_tokens=True)}\n")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--write", action="store_true")
    p.add_argument("--samples", action="store_true")
    a = p.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)  # so that sums are in the same order on every machine
    folder = os.path.join(a.model, "eval")
    files = read_files(folder, a.write)
    expected = {"window": WINDOW, "method": " ".join(Runner.perplexity.__doc__.split()), "exports": {}}
    for name, state in (("mlx", load_mlx(a.model)), ("gguf", load_gguf(a.model))):
        runner = Runner(a.model, build(a.model, state))
        figures, wrong = measure(name, runner, files, a.write, folder)
        expected["exports"][name] = figures
        print(name, json.dumps({k: v for k, v in figures.items() if k != "greedy"}, indent=1))
        for prompt, answer in wrong:
            print(f"  wrong: {prompt!r} -> {answer!r}")
        if a.samples:
            samples(runner)
    path = os.path.join(folder, "expected.json")
    if a.write:
        with open(path, "w") as f:
            json.dump(expected, f, indent=1)
            f.write("\n")
        return
    with open(path) as f:
        before = json.load(f)
    for name, figures in expected["exports"].items():
        for key, value in figures.items():
            old = before["exports"][name][key]
            if value != old and not (key == "perplexity" and abs(value / old - 1) < 1e-4):
                sys.exit(f"{name}: {key} is {value}, eval/expected.json has {old}")
    print("the same as eval/expected.json")


if __name__ == "__main__":
    main()
