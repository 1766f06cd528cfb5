"""Finding the rivals, or building them as their users would for this machine."""
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from race import machine

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent.parent
LLAMA = "llama-cpp-python==0.3.36"


def announce(command, env):
    words = [f"{k}='{v}'" for k, v in env.items()] + [str(c) for c in command]
    print("+ " + " ".join(words), file=sys.stderr)


def build(command, env, wanted):
    """Runs a command that builds something, if builds were asked for; otherwise only says what it would be."""
    announce(command, env)
    if not wanted:
        sys.exit("not found; --build runs the command above")
    # Standard output is for the table.
    subprocess.run(command, check=True, env=os.environ | env, stdout=sys.stderr)


def llama(wanted, without_amx=False, again=False):
    """Makes sure of llama-cpp-python in the Python that runs this. ggml's kernels for AMX are left out on request."""
    if importlib.util.find_spec("llama_cpp") and not again:
        return
    options = "-DGGML_NATIVE=ON"
    if without_amx:
        # ggml asks the compiler alone whether to use AMX.
        options += " -DCMAKE_C_FLAGS=-U__AMX_INT8__ -DCMAKE_CXX_FLAGS=-U__AMX_INT8__"
    command = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--no-binary", "llama-cpp-python", LLAMA]
    build(command + (["--force-reinstall", "--no-deps"] if again else []), {"CMAKE_ARGS": options}, wanted)


def has_amx():
    return "amx_int8" in machine.flags()


def candle(wanted):
    """The path of the program that measures candle."""
    folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target" / "candle")).resolve()
    program = folder / "release" / "dacapo-bench-candle"
    command = ["cargo", "build", "--release", "--locked", "--manifest-path", BENCH / "candle" / "Cargo.toml"]
    if wanted or not program.exists():
        build([*command, "--target-dir", folder], {"RUSTFLAGS": "-C target-cpu=native"}, wanted)
    return program


def candle_version():
    lock = (BENCH / "candle" / "Cargo.lock").read_text()
    return "candle " + re.search(r'name = "candle-core"\nversion = "([^"]+)"', lock)[1]


def dacapo(path, wanted):
    """The path of Dacapo's command; its default is built when it is missing or builds were asked for."""
    default = ROOT / "target" / "release" / "dacapo"
    if path:
        return Path(path).resolve()
    if wanted or not default.exists():
        command = ["cargo", "build", "--release", "--locked", "--manifest-path", ROOT / "Cargo.toml", "--target-dir", ROOT / "target"]
        build(command, {}, wanted)
    return default
