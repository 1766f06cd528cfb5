// Functions across the threads of a simdgroup.
#pragma once

namespace sim {

enum Operation : uint { BARRIER, REDUCE, SHUFFLE, LOAD_MATRIX, STORE_MATRIX, MULTIPLY_MATRICES };

// Hands in a value and waits until every thread of the simdgroup has; then `read(lane)` gives the others'.
template <class T>
struct Exchange {
    Fiber* fiber;
    uint turn;

    [[gnu::always_inline]] const T& read(uint lane) const {
        return *reinterpret_cast<const T*>(fiber->simd->slots[turn & 1][lane]);
    }

    [[gnu::always_inline]] uint lane() const {
        return fiber->thread_index % WIDTH;
    }

    // The value of a lane that has to be there.
    [[gnu::always_inline]] T from(uint lane) const {
        if (lane >= fiber->simd->lanes) {
            fail(INACTIVE_LANE, lane, fiber->simd->lanes);
        }
        return read(lane);
    }
};

template <class T>
[[gnu::noinline, clang::convergent, clang::no_sanitize("thread", "coverage")]] inline Exchange<T>
exchange(T value, uint operation, uint site) {
    static_assert(sizeof(T) <= SLOT, "threads exchange what a slot holds");
    Fiber* const fiber = self();
    const uint turn = fiber->operations++;
    __builtin_memcpy(fiber->simd->slots[turn & 1][fiber->thread_index % WIDTH], &value, sizeof value);
    fiber->launch->host->simd(fiber, operation, 0, site);
    return {fiber, turn};
}

// The values of all threads put together in order. The first thread to go on does it for all.
template <class T, class F>
[[gnu::always_inline, clang::no_sanitize("thread", "coverage")]] inline T reduce(T value, F join, uint site) {
    const Exchange<T> others = exchange(value, REDUCE, site);
    Simdgroup* const simd = others.fiber->simd;
    const uint side = others.turn & 1;
    if (simd->computed[side] != others.turn + 1) {
        T all = others.read(0);
        for (uint lane = 1; lane < simd->lanes; lane++) {
            all = join(all, others.read(lane));
        }
        __builtin_memcpy(simd->result[side], &all, sizeof all);
        simd->computed[side] = others.turn + 1;
    }
    T all;
    __builtin_memcpy(&all, simd->result[side], sizeof all);
    return all;
}

} // namespace sim

namespace metal {

[[gnu::noinline, clang::convergent, clang::no_sanitize("thread", "coverage")]] inline void
simdgroup_barrier(mem_flags flags, uint site = SIM_SITE) {
    sim::Fiber* const fiber = sim::self();
    fiber->operations++;
    fiber->launch->host->simd(fiber, sim::BARRIER, static_cast<uint>(flags), site);
}

#define SIM_REDUCE(name, expression)                                                                                   \
    template <class T>                                                                                                 \
    [[clang::no_sanitize("thread", "coverage")]] inline T name(T value, uint site = SIM_SITE) {                        \
        return sim::reduce(value, [](T a, T b) [[gnu::always_inline]] { return expression; }, site);                   \
    }
SIM_REDUCE(simd_sum, a + b)
SIM_REDUCE(simd_product, a * b)
SIM_REDUCE(simd_max, max(a, b))
SIM_REDUCE(simd_min, min(a, b))
SIM_REDUCE(simd_and, a & b)
SIM_REDUCE(simd_or, a | b)
SIM_REDUCE(simd_xor, a ^ b)
#undef SIM_REDUCE

inline bool simd_all(bool value, uint site = SIM_SITE) {
    return simd_and(uint{value}, site) != 0;
}

inline bool simd_any(bool value, uint site = SIM_SITE) {
    return simd_or(uint{value}, site) != 0;
}

#define SIM_SHUFFLE(name, source)                                                                                        \
    template <class T>                                                                                                 \
    [[clang::no_sanitize("thread", "coverage")]] inline T name(T value, uint n, uint site = SIM_SITE) {                \
        const auto others = sim::exchange(value, sim::SHUFFLE, site);                                                  \
        [[maybe_unused]] const uint lane = others.lane();                                                              \
        return others.from(source);                                                                                    \
    }
SIM_SHUFFLE(simd_shuffle, n)
SIM_SHUFFLE(simd_broadcast, n)
SIM_SHUFFLE(simd_shuffle_xor, lane ^ n)
SIM_SHUFFLE(simd_shuffle_up, lane >= n ? lane - n : lane)
SIM_SHUFFLE(simd_shuffle_down, lane + n < others.fiber->simd->lanes ? lane + n : lane)
#undef SIM_SHUFFLE

template <class T>
inline T simd_broadcast_first(T value, uint site = SIM_SITE) {
    return simd_broadcast(value, 0, site);
}

template <class T>
[[clang::no_sanitize("thread", "coverage")]] inline T simd_prefix_exclusive_sum(T value, uint site = SIM_SITE) {
    const auto others = sim::exchange(value, sim::SHUFFLE, site);
    T sum{};
    for (uint lane = 0; lane < others.lane(); lane++) {
        sum += others.read(lane);
    }
    return sum;
}

template <class T>
inline T simd_prefix_inclusive_sum(T value, uint site = SIM_SITE) {
    return simd_prefix_exclusive_sum(value, site) + value;
}

} // namespace metal
