// Matrices of 8 by 8 that a simdgroup holds together.
//
// Each thread has two neighbours of a line. Which, Metal does not say, so that no text may build on it: they lie as they are
// known to do on Apple's GPUs, far from how a text would share 64 values out. What belongs together is told by a number, the
// turn of the simdgroup in which a matrix came to be: 0 as long as nothing was loaded.
#pragma once

namespace metal {

template <class T, int Columns, int Lines>
struct simdgroup_matrix {
    static_assert(Columns == 8 && Lines == 8, "Metal's matrices are 8 by 8");
    T own[2];
    uint turn = 0;
};
using simdgroup_half8x8 = simdgroup_matrix<half, 8, 8>;
using simdgroup_float8x8 = simdgroup_matrix<float, 8, 8>;

} // namespace metal

namespace sim {

// Where a thread's first value is.
[[gnu::always_inline]] constexpr uint matrix_line(uint lane) {
    return (lane / 4 & 4) + lane / 2 % 4;
}

[[gnu::always_inline]] constexpr uint matrix_column(uint lane) {
    return (lane / 4 & 2) * 2 + lane % 2 * 2;
}

// The thread that has a value.
[[gnu::always_inline]] constexpr uint matrix_lane(uint line, uint column) {
    return (line & 4) * 4 + (column & 4) * 2 + line % 4 * 2 + column % 4 / 2;
}

// Fails unless all threads of the simdgroup brought what belongs together. The first thread to go on looks.
template <class T>
[[gnu::always_inline, clang::no_sanitize("thread", "coverage")]] inline void
matrix_check(const Exchange<T>& all, uint what) {
    Simdgroup* const simd = all.fiber->simd;
    const uint side = all.turn & 1;
    if (simd->computed[side] == all.turn + 1) {
        return;
    }
    simd->computed[side] = all.turn + 1;
    if (simd->lanes != WIDTH) {
        fail(MATRIX_LANES, simd->lanes, WIDTH);
    }
    for (uint lane = 0; lane < WIDTH; lane++) {
        if (!all.read(lane).fits(all.read(0))) {
            fail(what, 0, 0);
        }
    }
}

// Where a matrix lies, and which it is.
struct MatrixPlace {
    const volatile void* at;
    ulong stride;
    uint transposed;
    uint turn;

    [[gnu::always_inline, clang::no_sanitize("thread", "coverage")]] bool fits(const MatrixPlace& other) const {
        return at == other.at && stride == other.stride && transposed == other.transposed;
    }
};

[[gnu::always_inline, clang::no_sanitize("thread", "coverage")]] inline uint
matrix_place(MatrixPlace place, uint operation, uint site) {
    const auto all = exchange(place, operation, site);
    matrix_check(all, MATRIX_PLACES);
    if (operation == STORE_MATRIX && place.turn == 0) {
        fail(UNSET_MATRIX, 0, 0);
    }
    if (operation == STORE_MATRIX && place.turn != all.read(0).turn) {
        fail(MIXED_MATRIX, 0, 0);
    }
    return all.turn + 1;
}

// The address of one of a thread's values, and a word to the host.
template <class T>
[[gnu::always_inline, clang::no_sanitize("thread", "coverage")]] inline T*
matrix_value(T* start, ulong stride, bool transposed, uint i, uint kind) {
    const uint lane = self()->thread_index % WIDTH;
    const ulong line = matrix_line(lane), column = matrix_column(lane) + i;
    T* const at = start + (transposed ? column * stride + line : line * stride + column);
#ifdef SIM_SHADOW
    self()->launch->host->access(self(), at, sizeof *at, kind);
#endif
    return at;
}

// What the threads bring to a product.
template <class A, class B>
struct Factors {
    A a[2];
    B b[2];
    uint turns[3];

    [[gnu::always_inline, clang::no_sanitize("thread", "coverage")]] bool fits(const Factors& other) const {
        return turns[0] == other.turns[0] && turns[1] == other.turns[1] && turns[2] == other.turns[2];
    }
};

} // namespace sim

namespace metal {

#ifdef SIM_SPACES

// Loads and stores, in the two spaces that they know.
#define SIM_MATRIX_SPACE(space)                                                                                        \
    template <class T>                                                                                                 \
    void simdgroup_load(simdgroup_matrix<T, 8, 8>&, const space T*, ulong = 8, ulong = 0, bool = false);               \
    template <class T>                                                                                                 \
    void simdgroup_store(simdgroup_matrix<T, 8, 8>, space T*, ulong = 8, ulong = 0, bool = false);
SIM_MATRIX_SPACE(device)
SIM_MATRIX_SPACE(threadgroup)
#undef SIM_MATRIX_SPACE

#else

// `stride` is the number of values from one line to the next. Origins other than 0 are for nobody.
template <class T>
[[gnu::noinline, clang::convergent, clang::no_sanitize("thread", "coverage")]] inline void simdgroup_load(
    simdgroup_matrix<T, 8, 8>& to, const T* from, ulong stride = 8, int = 0, bool transposed = false,
    uint site = SIM_SITE) {
    to.turn = sim::matrix_place({from, stride, transposed, 0}, sim::LOAD_MATRIX, site);
    for (uint i = 0; i < 2; i++) {
        to.own[i] = *sim::matrix_value(from, stride, transposed, i, 0);
    }
}

template <class T>
[[gnu::noinline, clang::convergent, clang::no_sanitize("thread", "coverage")]] inline void simdgroup_store(
    simdgroup_matrix<T, 8, 8> from, T* to, ulong stride = 8, int = 0, bool transposed = false,
    uint site = SIM_SITE) {
    sim::matrix_place({to, stride, transposed, from.turn}, sim::STORE_MATRIX, site);
    for (uint i = 0; i < 2; i++) {
        *sim::matrix_value(to, stride, transposed, i, 1) = from.own[i];
    }
}

#endif

// d = a b + c. Sums are taken in the type of `d`.
template <class D, class A, class B, class C>
[[gnu::noinline, clang::convergent, clang::no_sanitize("thread", "coverage")]] inline void simdgroup_multiply_accumulate(
    simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b, simdgroup_matrix<C, 8, 8> c,
    uint site = SIM_SITE) {
    using Factors = sim::Factors<A, B>;
    const Factors own = {{a.own[0], a.own[1]}, {b.own[0], b.own[1]}, {a.turn, b.turn, c.turn}};
    const auto all = sim::exchange(own, sim::MULTIPLY_MATRICES, site);
    if (a.turn == 0 || b.turn == 0 || c.turn == 0) {
        sim::fail(sim::UNSET_MATRIX, 0, 0);
    }
    sim::matrix_check(all, sim::MIXED_MATRIX);
    const uint line = sim::matrix_line(all.lane()), column = sim::matrix_column(all.lane());
    D sums[2] = {static_cast<D>(c.own[0]), static_cast<D>(c.own[1])};
    for (uint k = 0; k < 8; k++) {
        const D factor = static_cast<D>(all.read(sim::matrix_lane(line, k)).a[k % 2]);
        const Factors& other = all.read(sim::matrix_lane(k, column));
        for (uint i = 0; i < 2; i++) {
            sums[i] = fma(factor, static_cast<D>(other.b[i]), sums[i]);
        }
    }
    d = {{sums[0], sums[1]}, all.turn + 1};
}

} // namespace metal
