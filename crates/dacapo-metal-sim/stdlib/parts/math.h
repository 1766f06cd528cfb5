// Functions of scalars and vectors, lane by lane.
#pragma once

namespace metal {

#define SIM_ONE(name, builtin)                                                                                         \
    template <class T>                                                                                                 \
    [[gnu::always_inline]] inline T name(T x) {                                                                        \
        return builtin(x);                                                                                             \
    }
SIM_ONE(abs, __builtin_elementwise_abs)
SIM_ONE(fabs, __builtin_elementwise_abs)
SIM_ONE(ceil, __builtin_elementwise_ceil)
SIM_ONE(floor, __builtin_elementwise_floor)
SIM_ONE(trunc, __builtin_elementwise_trunc)
SIM_ONE(rint, __builtin_elementwise_rint)
SIM_ONE(sqrt, __builtin_elementwise_sqrt)
SIM_ONE(exp, __builtin_elementwise_exp)
SIM_ONE(exp2, __builtin_elementwise_exp2)
SIM_ONE(log, __builtin_elementwise_log)
SIM_ONE(log2, __builtin_elementwise_log2)
SIM_ONE(sin, __builtin_elementwise_sin)
SIM_ONE(cos, __builtin_elementwise_cos)
SIM_ONE(tanh, __builtin_elementwise_tanh)
SIM_ONE(popcount, __builtin_elementwise_popcount)
SIM_ONE(reverse_bits, __builtin_elementwise_bitreverse)
#undef SIM_ONE

template <class T>
[[gnu::always_inline]] inline T rsqrt(T x) {
    return static_cast<T>(1) / sqrt(x);
}

#define SIM_TWO(name, builtin)                                                                                         \
    template <class T>                                                                                                 \
    [[gnu::always_inline]] inline T name(T x, T y) {                                                                   \
        return builtin(x, y);                                                                                          \
    }
SIM_TWO(max, __builtin_elementwise_max)
SIM_TWO(min, __builtin_elementwise_min)
SIM_TWO(fmax, __builtin_elementwise_max)
SIM_TWO(fmin, __builtin_elementwise_min)
SIM_TWO(pow, __builtin_elementwise_pow)
#undef SIM_TWO

template <class T>
[[gnu::always_inline]] inline T fma(T x, T y, T z) {
    return __builtin_elementwise_fma(x, y, z);
}

template <class T>
[[gnu::always_inline]] inline T clamp(T x, T least, T most) {
    return min(max(x, least), most);
}

// Bounds of vectors may be scalars.
template <class T>
[[gnu::always_inline]] inline T clamp(T x, typename sim::shape<T>::lane least, typename sim::shape<T>::lane most) {
    return clamp(x, sim::make<T>(least), sim::make<T>(most));
}

template <class T, class C>
[[gnu::always_inline]] inline T select(T otherwise, T then, C which) {
    return which ? then : otherwise;
}

template <class T>
[[gnu::always_inline]] inline typename sim::shape<T>::lane dot(T x, T y) {
    typename sim::shape<T>::lane sum = 0;
    for (int i = 0; i < sim::shape<T>::lanes; i++) {
        sum += x[i] * y[i];
    }
    return sum;
}

// Comparisons of vectors give vectors of integers, all bits set where they hold.
template <class T>
[[gnu::always_inline]] inline bool all(T x) {
    bool all = true;
    for (int i = 0; i < sim::shape<T>::lanes; i++) {
        all = all && x[i] != 0;
    }
    return all;
}

template <class T>
[[gnu::always_inline]] inline bool any(T x) {
    bool any = false;
    for (int i = 0; i < sim::shape<T>::lanes; i++) {
        any = any || x[i] != 0;
    }
    return any;
}

template <class T>
[[gnu::always_inline]] inline T clz(T x) {
    return x == 0 ? T(sizeof(T) * 8) : T(__builtin_clzg(x));
}

template <class T>
[[gnu::always_inline]] inline T ctz(T x) {
    return x == 0 ? T(sizeof(T) * 8) : T(__builtin_ctzg(x));
}

} // namespace metal
