"""Who races on what, and one run of each."""
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from race import pages, rivals

FORMAT_NAMES = {"q4_0": "Q4_0", "q4_k_m": "Q4_K_M", "q8_0": "Q8_0", "mlx4": "MLX 4-bit", "gguf": "GGUF", "mlx": "MLX"}
SHAPE_NAMES = {"qwen3-0.6b": "Qwen3-0.6B", "llama-3.2-1b": "Llama-3.2-1B", "llama-3.1-8b": "Llama-3.1-8B"}
# llama.cpp lays weights out anew while it loads them. For K-quants that costs on some processors more than it brings.
REPACKING_IN_DOUBT = ["q4_k_m", "gguf"]


class Failed(Exception):
    """A contestant ended with an error or was killed."""

    def __init__(self, code, output):
        lines = output.strip().splitlines()
        told = lines if len(lines) < 6 else [*lines[:2], "...", *lines[-3:]]
        super().__init__(f"ended with {code}: " + " / ".join(told))
        self.killed = code < 0


@dataclass
class Entry:
    """A contestant on one checkpoint; `runs` holds what it measured, a dictionary for each round."""

    engine: str
    format: str
    path: str
    note: str = ""
    runs: list = field(default_factory=list)
    failed: str = ""

    @property
    def name(self):
        return f"{FORMAT_NAMES[self.format]}, {self.engine}" + (f", {self.note}" if self.note else "")

    def to_json(self):
        """Without the folder, which says nothing to others."""
        values = {k: getattr(self, k) for k in ["engine", "format", "note", "runs", "failed"]}
        return {"name": self.name, "file": Path(self.path).name, "file_bytes": size_of(self.path)} | values


def files(path):
    """The files of weights: the one itself, or those in a folder."""
    path = Path(path)
    return [path] if path.is_file() else sorted(path.glob("*.safetensors"))


def size_of(path):
    return sum(file.stat().st_size for file in files(path))


def entries(format, path, mlx, engines):
    """The contestants on a GGUF file, and on the MLX folder of the same shape if there is one."""
    found = []
    if "llama.cpp" in engines:
        found.append(Entry("llama.cpp", format, path))
        if format in REPACKING_IN_DOUBT:
            found.append(Entry("llama.cpp", format, path, "no repacking"))
    if "candle" in engines:
        found.append(Entry("candle", format, path))
    found.append(Entry("Dacapo", format, path))
    if mlx:
        mlx_format = "mlx" if format == "gguf" else "mlx4"
        found.append(Entry("Dacapo", mlx_format, mlx))
        if "MLX" in engines:
            found.append(Entry("MLX", mlx_format, mlx))
    return found


def rotated(items, by):
    """The same items, beginning with a later one, so that nobody always runs first."""
    by %= len(items)
    return items[by:] + items[:by]


@dataclass
class Tests:
    prompts: list
    tokens: list
    depths: list
    threads: int

    def names(self):
        names = [f"prompt {n}" for n in self.prompts] + [f"generation {n}" for n in self.tokens]
        return names + [f"generation {n} @ {d}" for d in self.depths for n in self.tokens]

    def positions(self, depth=0):
        return max(self.prompts + [depth + n for n in self.tokens]) + 64


def output_of(command, env=None, huge=False):
    """What a command prints; with `huge` its memory comes in huge pages."""
    here = {"PYTHONPATH": os.pathsep.join(filter(None, [str(rivals.BENCH), os.environ.get("PYTHONPATH")]))}
    process = pages.start([str(c) for c in command], here | (env or {}), huge)
    output, errors = process.communicate()
    if process.returncode != 0:
        raise Failed(process.returncode, errors)
    return output


def listed(numbers):
    return ",".join(str(n) for n in numbers)


class Runner:
    def __init__(self, tests, dacapo, candle):
        self.tests, self.dacapo_path, self.candle_path = tests, dacapo, candle

    def run(self, entry):
        """Measures an entry once, in processes of its own: speeds, seconds of loading, peak memory."""
        if entry.engine == "Dacapo":
            return self.dacapo(entry)
        if entry.engine == "candle":
            return self.candle(entry)
        return self.python(entry)

    def python(self, entry):
        job = vars(self.tests) | {"model": entry.path, "repack": entry.note != "no repacking"}
        module = "race.llama" if entry.engine == "llama.cpp" else "race.mlx"
        text = output_of([sys.executable, "-m", module, json.dumps(job)], huge=True)
        return json.loads(text.splitlines()[-1])

    def candle(self, entry):
        tests = self.tests
        command = [self.candle_path, entry.path, "--threads", tests.threads, "--prompts", listed(tests.prompts)]
        command += ["--tokens", listed(tests.tokens), "--depths", listed(tests.depths)]
        threads = {"RAYON_NUM_THREADS": str(tests.threads), "CANDLE_NUM_THREADS": str(tests.threads)}
        return json.loads(output_of(command, threads, huge=True))

    def dacapo(self, entry):
        tests, result = self.tests, None
        # Tests at depth in a process of their own: the peak is that of the others.
        for depth in [0, *tests.depths]:
            prompts = "0" if depth else listed(tests.prompts)
            report = self.bench(["--model", entry.path, "-p", prompts, "-n", listed(tests.tokens), "-d", depth,
                                 "--context", tests.positions(depth)])
            if result is None:
                result = {k: report[k] for k in ["load_s", "peak_memory_bytes", "weight_bytes"]}
                result |= {"speeds": {}, "bytes_per_token": {}}
            for test in report["tests"]:
                name = f"{test['test']} {test['tokens']}" + (f" @ {depth}" if depth else "")
                result["speeds"][name] = test["median"]
                result["bytes_per_token"][name] = test["bytes_per_token"]
        return result

    def bench(self, options, huge=False):
        command = [self.dacapo_path, "bench", "--device", "cpu", "--threads", self.tests.threads, "--repeat", "1"]
        return json.loads(output_of([*command, "--json", *options], huge=huge))

    def bandwidth(self):
        """Bytes per second that plain loops read from memory in huge pages."""
        return self.bench(["-p", "0", "-n", "1"], huge=True)["memory_bytes_per_second"]

    def dacapo_version(self):
        return output_of([self.dacapo_path, "--version"]).strip()
