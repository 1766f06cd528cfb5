#!/usr/bin/env python3
"""Dacapo against llama.cpp and candle on the processor: the same weights, the same threads, the same minutes.

    python tools/bench/race.py --build --checkpoints DIR [--rounds R] [--depths 4096] [--json FILE] [--svg FILE]
    python tools/bench/race.py --from FILE.json [--svg FILE]

Makes checkpoints with random weights in DIR (once), and prints tables in Markdown: tokens per second, medians with
ranges, and how many times as fast Dacapo is as the better rival of each column. Each round measures every contestant
once, one after the other in processes of their own, and each round begins with another one. --build builds Dacapo and
the rivals for this machine, and prints the commands; without it what is missing is named. --gguf FILE (and --mlx
FOLDER) race on a model of yours in place of the shapes. --from draws from the figures of an earlier race.

Each rival runs as it is fastest: weights read into memory that is backed by huge pages instead of mapped; llama.cpp
with flash attention, and with Q4_K_M also without repacking, which may be faster; candle inside its own pool of
threads. Prompts are read once, and a few tokens generated, before anything counts. Needs numpy and gguf
(tools/bench/requirements.txt), a C++ compiler and CMake for llama.cpp, cargo for candle.
"""
import argparse
import json
import os
import sys
import time
from pathlib import Path

from race import entries, machine, picture, rivals, table

SHAPES, FORMATS = ["llama-3.2-1b", "qwen3-0.6b"], ["q4_0", "q4_k_m", "q8_0"]


def numbers(text):
    return [int(n) for n in text.split(",") if n]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", metavar="DIR", help="where the checkpoints are made, or lie already")
    parser.add_argument("--shapes", nargs="+", choices=entries.SHAPE_NAMES, default=SHAPES)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS, help="q4_0 brings MLX 4-bit along")
    parser.add_argument("--gguf", metavar="FILE", help="race on this model instead")
    parser.add_argument("--mlx", metavar="FOLDER", help="the same model for MLX, with --gguf")
    parser.add_argument("--rivals", nargs="*", choices=["llama.cpp", "candle"], default=["llama.cpp", "candle"])
    parser.add_argument("--race-mlx", action="store_true", help="time MLX too (needs mlx-lm; minutes on x86)")
    parser.add_argument("--dacapo", metavar="FILE", help="Dacapo's command [target/release/dacapo]")
    parser.add_argument("--prompts", "-p", type=numbers, default=[128, 512], metavar="N,...")
    parser.add_argument("--tokens", "-n", type=numbers, default=[64], metavar="N,...")
    parser.add_argument("--depths", "-d", type=numbers, default=[], metavar="N,...", help="generation after N tokens, too")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="[the cores of this machine]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--build", action="store_true", help="build what takes part")
    parser.add_argument("--no-amx", action="store_true", help="with --build: llama.cpp anew and without AMX, as after a crash")
    parser.add_argument("--json", metavar="FILE", help="keep all figures; written after every round")
    parser.add_argument("--svg", metavar="FILE", help="draw them")
    parser.add_argument("--from", dest="stored", metavar="FILE", help="measure nothing: take the figures of --json")
    args = parser.parse_args()
    if not (args.stored or args.gguf or args.checkpoints):
        parser.error("one of --checkpoints, --gguf and --from is needed")
    if not args.tokens or args.rounds < 1:
        parser.error("at least one number of tokens and one round are needed")
    for path in filter(None, [args.gguf, args.mlx, args.dacapo, args.stored]):
        if not os.path.exists(path):
            parser.error(f"{path} does not exist")
    return args


def checkpoint(args, shape, kind):
    """The path of a checkpoint, which is made if it is not there. An unfinished one has another name."""
    import random_checkpoint

    path = Path(random_checkpoint.path_of(shape, kind, args.checkpoints))
    if not path.exists():
        print(f"making {path.name}", file=sys.stderr)
        unfinished = random_checkpoint.write(shape, kind, os.path.join(args.checkpoints, "unfinished"))
        os.replace(unfinished, path)
    return str(path)


def groups(args):
    """Contestants that are compared with each other: (shape, format, entries)."""
    engines = args.rivals + (["MLX"] if args.race_mlx else [])
    if args.gguf:
        return [(Path(args.gguf).stem, "gguf", entries.entries("gguf", args.gguf, args.mlx, engines))]
    made = []
    for shape in args.shapes:
        for kind in args.formats:
            mlx = checkpoint(args, shape, "mlx4") if kind == "q4_0" else None
            made.append((shape, kind, entries.entries(kind, checkpoint(args, shape, kind), mlx, engines)))
    return made


def warm(paths):
    """Reads the files once, so that nobody's loading waits for the disk."""
    for file in (file for path in paths for file in entries.files(path)):
        with open(file, "rb", buffering=0) as f:
            while f.read(1 << 24):
                pass


def attempt(runner, entry, say):
    """One run of an entry; one that fails does not run again."""
    if entry.failed:
        return
    start = time.monotonic()
    try:
        entry.runs.append(runner.run(entry))
        say(f"{entry.name}: {time.monotonic() - start:.0f} s")
    except entries.Failed as error:
        entry.failed = str(error)
        say(f"{entry.name} {error}")


def probe(args, runner, entry):
    """Tries llama.cpp where its kernels for AMX are known to crash, and builds it without them if they do."""
    if args.no_amx or not rivals.has_amx():
        return
    short = entries.Tests([32], [1], [], args.threads)
    try:
        entries.Runner(short, runner.dacapo_path, runner.candle_path).run(entry)
    except entries.Failed as error:
        if not error.killed:
            sys.exit(f"llama.cpp {error}")
        print(f"llama.cpp {error}: it is built without AMX", file=sys.stderr)
        rivals.llama(args.build, without_amx=True, again=True)


def record(args, runner, raced, bandwidth):
    """What is kept of a race."""
    versions = {run["version"] for _, _, es in raced for e in es for run in e.runs if "version" in run}
    versions |= {runner.dacapo_version()} | ({rivals.candle_version()} if "candle" in args.rivals else set())
    return {
        "machine": args.machine, "threads": args.threads, "rounds": len(bandwidth), "tests": runner.tests.names(),
        "versions": sorted(versions), "bandwidth": bandwidth,
        "groups": [{"shape": s, "format": f, "entries": [e.to_json() for e in es]} for s, f, es in raced],
    }


def race(args):
    args.machine = machine.describe()
    tests = entries.Tests(args.prompts, args.tokens, args.depths, args.threads)
    if "llama.cpp" in args.rivals:
        rivals.llama(args.build, args.no_amx, args.no_amx and args.build)
    candle = rivals.candle(args.build) if "candle" in args.rivals else None
    runner = entries.Runner(tests, rivals.dacapo(args.dacapo, args.build), candle)
    raced = groups(args)
    if "llama.cpp" in args.rivals:
        probe(args, runner, raced[0][2][0])
    warm(dict.fromkeys(e.path for _, _, es in raced for e in es))
    bandwidth, figures = [], None
    for i in range(args.rounds):
        start = time.monotonic()
        bandwidth.append(runner.bandwidth())
        for shape, _, contestants in raced:
            for entry in entries.rotated(contestants, i):
                attempt(runner, entry, lambda text: print(f"round {i + 1}: {shape}, {text}", file=sys.stderr))
        print(f"round {i + 1} of {args.rounds}: {time.monotonic() - start:.0f} s", file=sys.stderr)
        figures = record(args, runner, raced, bandwidth)
        if args.json:
            Path(args.json).write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def main():
    args = arguments()
    figures = json.loads(Path(args.stored).read_text()) if args.stored else race(args)
    print(table.markdown(figures))
    if args.svg:
        Path(args.svg).write_text(picture.svg(figures))


if __name__ == "__main__":
    main()
