// What kernels need of <simd/simd.h> is in the stand-in's own types.
#pragma once
