"""Measures llama.cpp in a process of its own: python -m race.llama '{"model": ...}' prints one line of JSON.

A prompt is read once, and a few tokens are generated, before what counts. llama.cpp computes the logits of the last token and nothing is chosen from them.
"""
import json
import sys
import time

BATCH = 512
WARM_TOKENS = 4


def status(field, path="/proc/self/status"):
    """A field in kB of a file of /proc, in bytes."""
    with open(path) as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(field + ":"))


def set_fields(params, **values):
    """Sets fields of a C structure, which would take any other name without a word."""
    known = {name for name, *_ in params._fields_}
    for name, value in values.items():
        if name not in known:
            sys.exit(f"this llama-cpp-python has no {name} in {type(params).__name__}")
        setattr(params, name, value)


class Llama:
    def __init__(self, job):
        import llama_cpp

        self.ll, self.threads = llama_cpp, job["threads"]
        self.ll.llama_backend_init()
        params = self.ll.llama_model_default_params()
        set_fields(params, load_mode=self.ll.LLAMA_LOAD_MODE_NONE, use_extra_bufts=job["repack"])
        self.model = self.ll.llama_model_load_from_file(job["model"].encode(), params)
        if not self.model:
            sys.exit(f"llama.cpp cannot load {job['model']}")
        self.context = None

    def open(self, positions):
        """A context of its own for so many tokens, in place of the one before."""
        if self.context:
            self.ll.llama_free(self.context)
        params = self.ll.llama_context_default_params()
        set_fields(params, n_ctx=positions, n_batch=BATCH, n_ubatch=BATCH, n_threads=self.threads,
                   n_threads_batch=self.threads, flash_attn_type=self.ll.LLAMA_FLASH_ATTN_TYPE_ENABLED)
        self.context = self.ll.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit("llama.cpp makes no context")

    def decode(self, tokens):
        array = (self.ll.llama_token * len(tokens))(*tokens)
        code = self.ll.llama_decode(self.context, self.ll.llama_batch_get_one(array, len(tokens)))
        if code != 0:
            sys.exit(f"llama_decode returned {code}")
        self.ll.llama_synchronize(self.context)

    def read(self, n):
        """Reads a prompt of n tokens into an empty cache."""
        self.ll.llama_memory_clear(self.ll.llama_get_memory(self.context), True)
        for i in range(0, n, BATCH):
            self.decode([1 + t % 100 for t in range(i, min(i + BATCH, n))])

    def prompt(self, n):
        self.read(n)
        start = time.perf_counter()
        self.read(n)
        return n / (time.perf_counter() - start)

    def generation(self, n, depth):
        self.read(depth)
        for t in range(WARM_TOKENS):
            self.decode([1 + t])
        start = time.perf_counter()
        for t in range(n):
            self.decode([1 + t % 100])
        return n / (time.perf_counter() - start)


def main():
    job = json.loads(sys.argv[1])
    prompts, tokens, depths = job["prompts"], job["tokens"], job["depths"]
    import llama_cpp

    before = status("VmRSS")
    start = time.perf_counter()
    llama = Llama(job)
    llama.open(max(prompts + tokens, default=1) + 64)
    result = {"load_s": time.perf_counter() - start, "speeds": {}}
    for n in prompts:
        result["speeds"][f"prompt {n}"] = llama.prompt(n)
    for n in tokens:
        result["speeds"][f"generation {n}"] = llama.generation(n, 1)
    # Without the interpreter around it.
    result["peak_memory_bytes"] = status("VmHWM") - before
    result["huge_page_bytes"] = status("AnonHugePages", "/proc/self/smaps_rollup")
    if depths:
        llama.open(max(depths) + max(tokens) + 64)
    for depth in depths:
        for n in tokens:
            result["speeds"][f"generation {n} @ {depth}"] = llama.generation(n, depth)
    result["version"] = f"llama-cpp-python {llama_cpp.__version__}"
    result["features"] = llama_cpp.llama_print_system_info().decode()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
