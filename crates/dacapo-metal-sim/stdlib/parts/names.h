// Constructors of vectors and casts between them are written as calls of a type's name, which C++ does not let vectors
// have. Comes last: what stands above says `sim_float4` itself.
#pragma once

#define static_cast sim::convert

#define float2(...) sim_float2(__VA_ARGS__)
#define float4(...) sim_float4(__VA_ARGS__)
#define half2(...) sim_half2(__VA_ARGS__)
#define half4(...) sim_half4(__VA_ARGS__)
#define int2(...) sim_int2(__VA_ARGS__)
#define int4(...) sim_int4(__VA_ARGS__)
#define uint2(...) sim_uint2(__VA_ARGS__)
#define uint4(...) sim_uint4(__VA_ARGS__)
#define short2(...) sim_short2(__VA_ARGS__)
#define short4(...) sim_short4(__VA_ARGS__)
#define ushort2(...) sim_ushort2(__VA_ARGS__)
#define ushort4(...) sim_ushort4(__VA_ARGS__)
#define char2(...) sim_char2(__VA_ARGS__)
#define char4(...) sim_char4(__VA_ARGS__)
#define uchar2(...) sim_uchar2(__VA_ARGS__)
#define uchar4(...) sim_uchar4(__VA_ARGS__)
