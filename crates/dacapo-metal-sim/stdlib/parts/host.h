// What the host gives to kernels: threads, barriers, bound memory. The structures are those of the crate's `msl::abi`.
//
// Each thread of a threadgroup is a fiber with a stack of its own. Stacks are aligned to their size, so that a thread
// finds itself at the start of the stack that it runs on.
#pragma once

namespace sim {

struct Fiber;

struct Host {
    void (*barrier)(Fiber*, uint flags, size_t site);
    void (*simd)(Fiber*, uint operation, uint flags, size_t site);
    void (*fail)(Fiber*, uint what, ulong a, ulong b);
    void (*access)(Fiber*, const volatile void* at, ulong size, uint kind);
};

constexpr uint BUFFERS = 31;

struct Launch {
    const Host* host;
    char* buffers[BUFFERS];
    ulong lengths[BUFFERS];
    char* threadgroup_memory[BUFFERS];
    uint threadgroups[3];
    uint threads[3];
};

constexpr uint WIDTH = 32;
constexpr uint SLOT = 32;

// What the threads of a simdgroup exchange. A thread can be one operation ahead of another, so that there are two of all.
struct Simdgroup {
    uint lanes;
    uint computed[2];
    alignas(16) char result[2][SLOT];
    alignas(16) char slots[2][WIDTH][SLOT];
};

struct Fiber {
    const Launch* launch;
    Simdgroup* simd;
    // Edges of the control flow that it may still take.
    ulong budget;
    uint thread_index;
    uint operations;
    uint group[3];
};

constexpr ulong STACK = 1 << 16;

[[gnu::always_inline]] inline Fiber* self() {
    return reinterpret_cast<Fiber*>(reinterpret_cast<ulong>(__builtin_frame_address(0)) & ~(STACK - 1));
}

enum Failure : uint {
    OUT_OF_BOUNDS = 0,
    ENDLESS = 1,
    INACTIVE_LANE = 2,
    UNSET_MATRIX = 3,
    MIXED_MATRIX = 4,
    MATRIX_PLACES = 5,
    MATRIX_LANES = 6,
};

[[noreturn, gnu::cold, gnu::noinline, clang::no_sanitize("thread", "coverage")]] inline void
fail(uint what, ulong a, ulong b) {
    self()->launch->host->fail(self(), what, a, b);
    __builtin_trap();
}

#ifndef SIM_SPACES

// A runtime array in a buffer: the only member of the struct that an argument refers to. Its address is not that of the
// memory: the upper byte says which buffer it is, so that its length can be looked up.
template <class T>
struct Checked {
    T first[1];

    [[gnu::always_inline]] T& operator[](uint i) const {
        const ulong tagged = reinterpret_cast<ulong>(this);
        const ulong offset = ulong{i} * sizeof(T);
        const ulong length = self()->launch->lengths[tagged >> 56];
        if (__builtin_expect(offset + sizeof(T) > length, 0)) {
            fail(OUT_OF_BOUNDS, tagged >> 56, offset);
        }
        return *reinterpret_cast<T*>((tagged & ~(0xffUL << 56)) + offset);
    }
};

// An argument, for the host to look at.
struct Argument {
    uint kind;
    uint index;
    ulong size;
    ulong align;
};

// Arguments of kernels, from what is bound.
struct Bound {
    const char* at;
    template <class T>
    [[gnu::always_inline]] operator T&() const {
        return *reinterpret_cast<T*>(reinterpret_cast<ulong>(at));
    }
};

struct BoundPointer {
    const char* at;
    template <class T>
    [[gnu::always_inline]] operator T*() const {
        return reinterpret_cast<T*>(reinterpret_cast<ulong>(at));
    }
};

[[gnu::always_inline]] inline Bound buffer(uint i) {
    return {self()->launch->buffers[i]};
}

[[gnu::always_inline]] inline BoundPointer buffer_pointer(uint i) {
    return {self()->launch->buffers[i]};
}

[[gnu::always_inline]] inline Bound checked_buffer(ulong i) {
    const ulong at = reinterpret_cast<ulong>(self()->launch->buffers[i]) & ~(0xffUL << 56);
    return {reinterpret_cast<const char*>(at | i << 56)};
}

[[gnu::always_inline]] inline Bound threadgroup_memory(uint i) {
    return {self()->launch->threadgroup_memory[i]};
}

[[gnu::always_inline]] inline BoundPointer threadgroup_pointer(uint i) {
    return {self()->launch->threadgroup_memory[i]};
}

// A built-in argument, as the scalar or vector that the kernel declares.
struct Builtin {
    uint x, y, z;
    template <class T>
    [[gnu::always_inline]] operator T() const {
        if constexpr (shape<T>::lanes == 0) {
            return static_cast<T>(x);
        } else {
            T value{};
            const uint all[] = {x, y, z};
            for (int i = 0; i < shape<T>::lanes; i++) {
                value[i] = static_cast<typename shape<T>::lane>(all[i]);
            }
            return value;
        }
    }
};

[[gnu::always_inline]] inline Builtin thread_index_in_threadgroup() {
    return {self()->thread_index, 0, 0};
}

[[gnu::always_inline]] inline Builtin thread_position_in_threadgroup() {
    const uint i = self()->thread_index, x = self()->launch->threads[0], y = self()->launch->threads[1];
    return {i % x, i / x % y, i / x / y};
}

[[gnu::always_inline]] inline Builtin threadgroup_position_in_grid() {
    const uint* group = self()->group;
    return {group[0], group[1], group[2]};
}

[[gnu::always_inline]] inline Builtin thread_position_in_grid() {
    const Builtin at = thread_position_in_threadgroup(), group = threadgroup_position_in_grid();
    const uint* threads = self()->launch->threads;
    return {group.x * threads[0] + at.x, group.y * threads[1] + at.y, group.z * threads[2] + at.z};
}

[[gnu::always_inline]] inline Builtin threadgroups_per_grid() {
    const uint* groups = self()->launch->threadgroups;
    return {groups[0], groups[1], groups[2]};
}

[[gnu::always_inline]] inline Builtin threads_per_threadgroup() {
    const uint* threads = self()->launch->threads;
    return {threads[0], threads[1], threads[2]};
}

[[gnu::always_inline]] inline Builtin simdgroups_per_threadgroup() {
    const Builtin threads = threads_per_threadgroup();
    return {(threads.x * threads.y * threads.z + WIDTH - 1) / WIDTH, 0, 0};
}

[[gnu::always_inline]] inline Builtin simdgroup_index_in_threadgroup() {
    return {self()->thread_index / WIDTH, 0, 0};
}

[[gnu::always_inline]] inline Builtin thread_index_in_simdgroup() {
    return {self()->thread_index % WIDTH, 0, 0};
}

[[gnu::always_inline]] inline Builtin threads_per_simdgroup() {
    return {WIDTH, 0, 0};
}

#endif

} // namespace sim

namespace metal {

enum class mem_flags : uint { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };

constexpr mem_flags operator|(mem_flags a, mem_flags b) {
    return static_cast<mem_flags>(static_cast<uint>(a) | static_cast<uint>(b));
}

// What tells one call of a text from another: its place there. Compilers may copy calls, so that their addresses do not.
#define SIM_SITE __builtin_LINE() * 1024u + __builtin_COLUMN()

[[gnu::noinline, clang::convergent, clang::no_sanitize("thread", "coverage")]] inline void
threadgroup_barrier(mem_flags flags, uint site = SIM_SITE) {
    sim::Fiber* const fiber = sim::self();
    fiber->launch->host->barrier(fiber, static_cast<uint>(flags), site);
}

} // namespace metal
