"""Makes the demo model: generates the text, trains tokenizer and model, and fine-tunes it under both quantizers.

    python train.py --out build [--steps 4000] [--device cuda]

Writes build/tokenizer files, config.json, and the f32 weights in two safetensors files. export.py turns them into the shipped files.
"""

import argparse
import json
import math
import os
import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import corpus
import quant
from model import Qwen3, write_config


def batches(data, batch, length, device, seed):
    """Windows of `length` + 1 tokens: from the start of a story or of a chat, or from anywhere."""
    tokens, weights, stories, chats = data
    tokens = torch.from_numpy(tokens.astype("int32")).to(device)
    weights = torch.from_numpy(weights).to(device)
    last = len(tokens) - length - 2
    starts = [torch.from_numpy(s[s < last]).to(device) for s in (stories, chats)]
    generator = torch.Generator(device).manual_seed(seed)
    steps = torch.arange(length + 1, device=device)

    def draw(top, n):
        return torch.randint(top, (n,), generator=generator, device=device)

    while True:
        n = batch // 4
        begin = torch.cat([starts[0][draw(len(starts[0]), n)], starts[1][draw(len(starts[1]), 2 * n)], draw(last, batch - 3 * n)])
        at = begin[:, None] + steps
        x, w = tokens[at].long(), weights[at]
        yield x[:, :-1], x[:, 1:], w[:, 1:].float()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", required=True)
    p.add_argument("--seed", type=int, default=7)
    p.add_argument("--steps", type=int, default=4000)
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--length", type=int, default=1024)
    p.add_argument("--stories", type=int, default=300_000)
    p.add_argument("--chats", type=int, default=1_500_000)
    p.add_argument("--rate", type=float, default=3e-3)
    p.add_argument("--quantized-share", type=float, default=0.4, help="share of the steps, at the end, under the quantizers")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--processes", type=int, default=os.cpu_count())
    a = p.parse_args()
    began = time.time()

    def say(*text):
        print(f"{time.time() - began:7.1f} s ", *text, flush=True)

    tokenizer = corpus.train_tokenizer(a.seed)
    corpus.save_tokenizer(tokenizer, a.out)
    write_config(os.path.join(a.out, "config.json"))
    say("tokenizer")
    data = corpus.build(tokenizer, a.seed, a.stories, a.chats, a.processes)
    say(f"text: {len(data[0])} tokens, {int(data[1].sum())} learned, {len(data[2])} stories, {len(data[3])} chats")

    torch.manual_seed(a.seed)
    torch.set_float32_matmul_precision("high")
    model = Qwen3().to(a.device)
    names, parameters = zip(*model.named_parameters())
    decayed = [p for p in parameters if p.ndim == 2]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}, {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0}],
                                  lr=a.rate, betas=(0.9, 0.95), fused=a.device == "cuda")

    def loss_of(x, y, w):
        with torch.autocast(a.device, torch.bfloat16):
            logits = model(x)
        losses = F.cross_entropy(logits.flatten(0, 1).float(), y.flatten(), reduction="none")
        return (losses * w.flatten()).sum() / w.sum()

    def quantized(form):
        return [quant.through(n, p.detach(), form) for n, p in zip(names, parameters)]

    if a.device == "cuda":
        loss_of, quantized = torch.compile(loss_of), torch.compile(quantized)
    say(f"model: {sum(p.numel() for p in parameters)} parameters")
    warm, quantized_from = min(200, a.steps // 10 + 1), int(a.steps * (1 - a.quantized_share))
    source = batches(data, a.batch, a.length, a.device, a.seed)
    log = []
    for step in range(a.steps):
        rate = a.rate * min((step + 1) / warm, 0.002 + 0.998 * (0.5 + 0.5 * math.cos(math.pi * max(0, step - warm) / (a.steps - warm))))
        for group in optimizer.param_groups:
            group["lr"] = rate
        form = None if step < quantized_from else ("mlx", "gguf")[step % 2]
        if form:  # straight through: gradients at the quantized weights, steps of the full ones
            kept = [p.detach().clone() for p in parameters]
            with torch.no_grad():
                torch._foreach_copy_(list(p.data for p in parameters), quantized(form))
        loss = loss_of(*next(source))
        loss.backward()
        if form:
            torch._foreach_copy_(list(p.data for p in parameters), kept)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0 or step == a.steps - 1:
            log.append((step, form or "f32", round(float(loss.detach()), 4)))
            say(*log[-1])

    state = {n: p.detach().float().cpu().contiguous() for n, p in zip(names, parameters)}
    first = {n: t for n, t in state.items() if not any(n.startswith(f"model.layers.{i}.") for i in (3, 4, 5))}
    save_file(first, os.path.join(a.out, "weights-1.safetensors"))
    save_file({n: t for n, t in state.items() if n not in first}, os.path.join(a.out, "weights-2.safetensors"))
    with open(os.path.join(a.out, "training.json"), "w") as f:
        json.dump({"arguments": {k: v for k, v in vars(a).items() if k not in ("out", "processes")}, "tokens": len(data[0]), "seconds": round(time.time() - began),
                   "torch": torch.__version__, "loss": log}, f, indent=1)
    say("done")


if __name__ == "__main__":
    main()
