// Address spaces, scalars, vectors, conversions.
#pragma once

#ifdef SIM_SPACES
#define device __attribute__((address_space(1)))
#define constant const __attribute__((address_space(2)))
#define threadgroup __attribute__((address_space(3)))
#else
#define device
#define constant const
#define threadgroup
#endif
#define thread
#define kernel

using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long;
using size_t = decltype(sizeof 0);
using half = _Float16;
using bfloat = __bf16;
using uint8_t = uchar;
using uint16_t = ushort;
using uint32_t = uint;
using uint64_t = ulong;
using int8_t = signed char;
using int16_t = short;
using int32_t = int;
using int64_t = long;

namespace sim {

template <class T, int N>
using vec = T __attribute__((ext_vector_type(N)));

// Lanes of a vector type, 0 for others, and the type of a lane.
template <class T>
struct shape {
    static constexpr int lanes = 0;
};
template <class T, int N>
struct shape<T __attribute__((ext_vector_type(N)))> {
    static constexpr int lanes = N;
    using lane = T;
};

template <class T, class U>
[[gnu::always_inline]] inline void place(T& to, int& at, U value) {
    if constexpr (shape<U>::lanes == 0) {
        to[at++] = static_cast<typename shape<T>::lane>(value);
    } else {
        for (int i = 0; i < shape<U>::lanes; i++) {
            to[at++] = static_cast<typename shape<T>::lane>(value[i]);
        }
    }
}

// A constructor of a vector: from one value for all lanes, or from scalars and vectors that fill it.
template <class V, class First, class... Rest>
[[gnu::always_inline]] inline V make(First first, Rest... rest) {
    constexpr int lanes = shape<V>::lanes;
    if constexpr (sizeof...(Rest) == 0 && shape<First>::lanes == 0) {
        const V made = static_cast<typename shape<V>::lane>(first);
        return made;
    } else {
        constexpr auto count = [](int n) { return n == 0 ? 1 : n; };
        constexpr int given = (count(shape<First>::lanes) + ... + count(shape<Rest>::lanes));
        static_assert(given == lanes, "a vector is made of as many values as it has lanes");
        V made{};
        int at = 0;
        place(made, at, first);
        (place(made, at, rest), ...);
        return made;
    }
}

template <class V>
[[gnu::always_inline]] inline V make() {
    return V{};
}

// static_cast, between vectors too.
template <class T, class U>
[[gnu::always_inline]] inline T convert(U value) {
    if constexpr (shape<T>::lanes == 0) {
        return static_cast<T>(value);
    } else if constexpr (shape<U>::lanes == 0) {
        return make<T>(value);
    } else {
        static_assert(shape<T>::lanes == shape<U>::lanes, "vectors of one length convert");
        return __builtin_convertvector(value, T);
    }
}

} // namespace sim

template <class T, class U>
[[gnu::always_inline]] inline T as_type(U value) {
    static_assert(sizeof(T) == sizeof(U), "as_type keeps the size");
    return __builtin_bit_cast(T, value);
}

#define SIM_VECTOR(T, N)                                                                                               \
    using T##N = sim::vec<T, N>;                                                                                       \
    using packed_##T##N = sim::vec<T, N>;                                                                              \
    namespace metal {                                                                                                  \
    using ::T##N;                                                                                                      \
    using ::packed_##T##N;                                                                                             \
    }                                                                                                                  \
    template <class... A>                                                                                              \
    [[gnu::always_inline]] inline T##N sim_##T##N(A... values) {                                                       \
        return sim::make<T##N>(values...);                                                                             \
    }                                                                                                                  \
    namespace metal {                                                                                                  \
    using ::sim_##T##N;                                                                                                \
    }
// Packed vectors of three are another type than vectors of three: nothing needs them yet, so that neither is there.
#define SIM_VECTORS(T) SIM_VECTOR(T, 2) SIM_VECTOR(T, 4)
SIM_VECTORS(float)
SIM_VECTORS(half)
SIM_VECTORS(int)
SIM_VECTORS(uint)
SIM_VECTORS(short)
SIM_VECTORS(ushort)
SIM_VECTORS(char)
SIM_VECTORS(uchar)
#undef SIM_VECTORS
#undef SIM_VECTOR
using float3 = sim::vec<float, 3>;
using uint3 = sim::vec<uint, 3>;
using ushort3 = sim::vec<ushort, 3>;

namespace metal {
using ::as_type;
using ::bfloat;
using ::float3;
using ::half;
using ::uchar;
using ::uint;
using ::uint3;
using ::ulong;
using ::ushort;
using ::ushort3;
} // namespace metal
