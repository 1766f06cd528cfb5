// Atomics of 32 bits.
#pragma once

namespace metal {

enum memory_order { memory_order_relaxed };

template <class T>
struct atomic {
    T value;
};
using atomic_uint = atomic<uint>;
using atomic_int = atomic<int>;

} // namespace metal

namespace sim {

// The address of an atomic's value, wherever it lies, and a word to the host.
template <class A>
[[gnu::always_inline, clang::no_sanitize("thread", "coverage")]] inline auto atomic_value(A* at) {
    auto* const value = (decltype(A::value)*)at;
#ifdef SIM_SHADOW
    self()->launch->host->access(self(), value, sizeof *value, 2);
#endif
    return value;
}

} // namespace sim

namespace metal {

#define SIM_FETCH(name, builtin)                                                                                       \
    template <class A, class T>                                                                                        \
    [[clang::no_sanitize("thread", "coverage")]] inline decltype(A::value) name(A* at, T operand, memory_order) {      \
        return builtin(sim::atomic_value(at), operand, __ATOMIC_RELAXED);                                              \
    }
SIM_FETCH(atomic_exchange_explicit, __atomic_exchange_n)
SIM_FETCH(atomic_fetch_add_explicit, __atomic_fetch_add)
SIM_FETCH(atomic_fetch_sub_explicit, __atomic_fetch_sub)
SIM_FETCH(atomic_fetch_and_explicit, __atomic_fetch_and)
SIM_FETCH(atomic_fetch_or_explicit, __atomic_fetch_or)
SIM_FETCH(atomic_fetch_xor_explicit, __atomic_fetch_xor)
SIM_FETCH(atomic_fetch_max_explicit, __atomic_fetch_max)
SIM_FETCH(atomic_fetch_min_explicit, __atomic_fetch_min)
#undef SIM_FETCH

template <class A>
[[clang::no_sanitize("thread", "coverage")]] inline decltype(A::value) atomic_load_explicit(A* at, memory_order) {
    return __atomic_load_n(sim::atomic_value(at), __ATOMIC_RELAXED);
}

template <class A, class T>
[[clang::no_sanitize("thread", "coverage")]] inline void atomic_store_explicit(A* at, T value, memory_order) {
    __atomic_store_n(sim::atomic_value(at), static_cast<decltype(A::value)>(value), __ATOMIC_RELAXED);
}

} // namespace metal
