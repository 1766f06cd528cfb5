"""Processes whose memory comes in huge pages.

glibc asks for them with glibc.malloc.hugetlb=1. Where the system gives them on request only ("madvise"), releases such as
2.36 compare the text of a file of /sys that they did not end with a zero, and take the setting or not by chance. So every
process is looked at when it starts, and started again until it took it.
"""
import os
import subprocess
import time

from race import machine

TUNABLE = "glibc.malloc.hugetlb=1"
TRIES = 60
PATIENCE_S = 5


def environment():
    before = os.environ.get("GLIBC_TUNABLES")
    return {"GLIBC_TUNABLES": f"{before}:{TUNABLE}" if before else TUNABLE}


def heap_is_huge(smaps):
    """Whether huge pages were asked for in the heap; None without one. `smaps` is the text of /proc/PID/smaps."""
    heap = False
    for line in smaps.splitlines():
        if line.endswith("[heap]"):
            heap = True
        elif heap and line.startswith("VmFlags:"):
            return "hg" in line.split()
    return None


def took(process):
    """Whether a process that just started asks for huge pages; one that ended already is left to say why."""
    until, seen = time.monotonic() + PATIENCE_S, 0
    while time.monotonic() < until and process.poll() is None:
        huge = heap_is_huge(machine.text(f"/proc/{process.pid}/smaps"))
        # glibc asks just after the heap appears: one look too early proves nothing.
        seen += huge is False
        if huge or seen > 2:
            return bool(huge)
        time.sleep(0.01)
    return process.poll() is not None


def start(command, env, huge):
    """Starts a process, with `huge` one that asks for huge pages if the system lets it."""
    def once():
        both = os.environ | env | (environment() if huge else {})
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=both)

    if huge and machine.huge_pages() == "madvise":
        for _ in range(TRIES):
            process = once()
            if took(process):
                return process
            process.kill()
            process.communicate()
    return once()
