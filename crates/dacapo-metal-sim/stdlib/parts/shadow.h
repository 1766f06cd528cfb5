// What clang's instrumentation calls: before every access to memory that is not known to be a thread's own, and at every
// edge of the control flow.
#pragma once

#ifdef SIM_SHADOW
#define SIM_HOOK __attribute__((no_sanitize("thread", "coverage"), noinline))

namespace sim {
SIM_HOOK inline void report(const volatile void* at, ulong size, uint kind) {
    Fiber* const fiber = self();
    fiber->launch->host->access(fiber, at, size, kind);
}
} // namespace sim

#define SIM_ACCESS(size)                                                                                               \
    extern "C" SIM_HOOK void __tsan_read##size(void* at) {                                                             \
        sim::report(at, size, 0);                                                                                      \
    }                                                                                                                  \
    extern "C" SIM_HOOK void __tsan_write##size(void* at) {                                                            \
        sim::report(at, size, 1);                                                                                      \
    }                                                                                                                  \
    extern "C" SIM_HOOK void __tsan_unaligned_read##size(void* at) {                                                   \
        sim::report(at, size, 0);                                                                                      \
    }                                                                                                                  \
    extern "C" SIM_HOOK void __tsan_unaligned_write##size(void* at) {                                                  \
        sim::report(at, size, 1);                                                                                      \
    }
SIM_ACCESS(1)
SIM_ACCESS(2)
SIM_ACCESS(4)
SIM_ACCESS(8)
SIM_ACCESS(16)
#undef SIM_ACCESS

extern "C" SIM_HOOK void __tsan_init() {}

extern "C" SIM_HOOK void* __tsan_memcpy(void* to, const void* from, size_t size) {
    sim::report(from, size, 0);
    sim::report(to, size, 1);
    return __builtin_memcpy(to, from, size);
}

extern "C" SIM_HOOK void* __tsan_memmove(void* to, const void* from, size_t size) {
    sim::report(from, size, 0);
    sim::report(to, size, 1);
    return __builtin_memmove(to, from, size);
}

extern "C" SIM_HOOK void* __tsan_memset(void* to, int value, size_t size) {
    sim::report(to, size, 1);
    return __builtin_memset(to, value, size);
}

extern "C" SIM_HOOK void __sanitizer_cov_trace_pc() {
    if (--sim::self()->budget == 0) {
        sim::fail(sim::ENDLESS, 0, 0);
    }
}

#undef SIM_HOOK
#endif
