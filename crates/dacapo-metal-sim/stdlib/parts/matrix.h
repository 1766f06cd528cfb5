// Matrices of 8 by 8 that a simdgroup holds together.
#pragma once
