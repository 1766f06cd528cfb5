"""What there is to know about the machine."""
import os
import platform

# Instructions that kernels of quantized products are made of.
FLAGS = ["avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8",
         "asimddp", "i8mm", "bf16", "sve", "sve2"]


def text(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return ""


def flags():
    lines = [line for line in text("/proc/cpuinfo").splitlines() if line.startswith(("flags", "Features"))]
    return lines[0].split(":")[1].split() if lines else []


def cores():
    """Cores that this process may use; hyperthreads of one count once."""
    cpus = os.sched_getaffinity(0)
    siblings = {text(f"/sys/devices/system/cpu/cpu{c}/topology/thread_siblings_list") or str(c) for c in cpus}
    return len(siblings)


def huge_pages():
    """When the system backs memory by huge pages: always, madvise (on request) or never."""
    return text("/sys/kernel/mm/transparent_hugepage/enabled").partition("[")[2].partition("]")[0] or "never"


def describe():
    info = text("/proc/cpuinfo").splitlines()
    model = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), platform.machine())
    found = set(flags())
    return {
        "cpu": model, "cores": cores(), "flags": [flag for flag in FLAGS if flag in found],
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "huge_pages": huge_pages(),
        "libc": " ".join(platform.libc_ver()), "kernel": platform.release(), "load": os.getloadavg()[0],
    }
