"""Measures MLX in a process of its own: python -m race.mlx '{"model": ...}' prints one line of JSON."""
import json
import sys
import time
from pathlib import Path

# A few tokens tell enough: its x86 build is far slower than the others.
TOKENS = 4


def main():
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache
    from mlx_lm.utils import load_model

    job = json.loads(sys.argv[1])
    start = time.perf_counter()
    model, _ = load_model(Path(job["model"]))
    load = time.perf_counter() - start
    cache = make_prompt_cache(model)
    mx.eval(model(mx.array([[1]]), cache=cache))
    start = time.perf_counter()
    for t in range(TOKENS):
        mx.eval(model(mx.array([[1 + t]]), cache=cache))
    speed = TOKENS / (time.perf_counter() - start)
    print(json.dumps({"load_s": load, "speeds": {f"generation {n}": speed for n in job["tokens"]}}))


if __name__ == "__main__":
    main()
