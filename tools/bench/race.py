#!/usr/bin/env python3
"""Dacapo against llama.cpp (and, if asked, MLX) on the same checkpoint, the same threads and in the same minutes.

    python race.py --dacapo target/release/dacapo --gguf MODEL.gguf [--mlx FOLDER] [--prompt 128,512] [--generate 64]
                   [--threads N] [--rounds R] [--race-mlx]

Rounds are interleaved: each measures every contestant once. Printed are medians with the range, in tokens per second,
and the ratio to llama.cpp. Needs llama-cpp-python (built for this machine: pip install --no-binary llama-cpp-python
llama-cpp-python) and, for --race-mlx, mlx-lm. llama.cpp runs with flash attention and without memory mapping, which is how it is fastest
in generation.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time


def dacapo(args, model):
    command = [args.dacapo, "bench", "--model", model, "-p", args.prompt, "-n", args.generate, "--repeat", "1", "--json"]
    command += ["--threads", str(args.threads)]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {f"{r['test']} {r['tokens']}": r["median"] for r in report["tests"]}


def child(args, name, model):
    """Measures a rival in a process of its own, so that its memory is gone afterwards."""
    command = [sys.executable, __file__, "--measure", name, "--gguf", model, "--prompt", args.prompt]
    command += ["--generate", args.generate, "--threads", str(args.threads)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def measure_llama(args):
    import llama_cpp as ll

    ll.llama_backend_init()
    mp = ll.llama_model_default_params()
    mp.use_mmap = False
    model = ll.llama_model_load_from_file(args.gguf.encode(), mp)
    if not model:
        sys.exit(f"llama.cpp cannot load {args.gguf}")
    cp = ll.llama_context_default_params()
    prompts, generate = numbers(args.prompt), numbers(args.generate)
    cp.n_ctx = max(prompts + generate) + 64
    cp.n_batch = cp.n_ubatch = 512
    cp.n_threads = cp.n_threads_batch = args.threads
    if hasattr(ll, "LLAMA_FLASH_ATTN_TYPE_ENABLED"):
        cp.flash_attn_type = ll.LLAMA_FLASH_ATTN_TYPE_ENABLED
    context = ll.llama_init_from_model(model, cp)

    def clear():
        ll.llama_memory_clear(ll.llama_get_memory(context), True)

    def decode(tokens):
        array = (ll.llama_token * len(tokens))(*tokens)
        assert ll.llama_decode(context, ll.llama_batch_get_one(array, len(tokens))) == 0
        ll.llama_synchronize(context)

    decode([1] * 32)
    result = {}
    for n in prompts:
        clear()
        start = time.perf_counter()
        for i in range(0, n, 512):
            decode([1 + t % 100 for t in range(i, min(i + 512, n))])
        result[f"prompt {n}"] = n / (time.perf_counter() - start)
    for n in generate:
        clear()
        decode([1])
        start = time.perf_counter()
        for t in range(n):
            decode([1 + t % 100])
        result[f"generation {n}"] = n / (time.perf_counter() - start)
    return result


def measure_mlx(args):
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache
    from mlx_lm.utils import load_model
    from pathlib import Path

    model, _ = load_model(Path(args.gguf))
    cache, tokens = make_prompt_cache(model), 4
    mx.eval(model(mx.array([[1]]), cache=cache))
    start = time.perf_counter()
    for t in range(tokens):
        mx.eval(model(mx.array([[1 + t]]), cache=cache))
    # A few tokens tell enough: this build is far slower than the others on x86.
    return {f"generation {n}": tokens / (time.perf_counter() - start) for n in numbers(args.generate)}


def numbers(text):
    return [int(n) for n in text.split(",")]


def spread(values):
    return f"{statistics.median(values):7.1f} ({min(values):.1f}-{max(values):.1f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dacapo", default="target/release/dacapo")
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--mlx")
    parser.add_argument("--prompt", default="128,512")
    parser.add_argument("--generate", default="64")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--race-mlx", action="store_true", help="time MLX too (minutes on x86)")
    parser.add_argument("--measure", choices=["llama.cpp", "mlx"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure_llama(args) if args.measure == "llama.cpp" else measure_mlx(args)))
        return
    contestants = {"llama.cpp, GGUF": lambda: child(args, "llama.cpp", args.gguf), "dacapo, GGUF": lambda: dacapo(args, args.gguf)}
    if args.mlx:
        contestants["dacapo, MLX"] = lambda: dacapo(args, args.mlx)
        if args.race_mlx:
            contestants["MLX"] = lambda: child(args, "mlx", args.mlx)
    results = {name: {} for name in contestants}
    for i in range(args.rounds):
        for name, run in contestants.items():
            for test, value in run().items():
                results[name].setdefault(test, []).append(value)
            print(f"round {i + 1}: {name}", file=sys.stderr)
    reference = {test: statistics.median(v) for test, v in results["llama.cpp, GGUF"].items()}
    tests = list(reference)
    print("| tokens per second, median (range), ratio | " + " | ".join(tests) + " |")
    print("|---|" + "---|" * len(tests))
    for name, measured in results.items():
        cells = []
        for test in tests:
            values = measured.get(test)
            cells.append(f"{spread(values)} {statistics.median(values) / reference[test]:.2f}x" if values else "-")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
