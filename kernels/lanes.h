/* Sixteen numbers at a time, with the vector types that gcc and clang share. */

#include <stdint.h>
#include <string.h>

#define LANES 16
#define FORBIDDEN -1e30f
#define LEAST -126.0f  /* 2 to this is the smallest normal number; what is below counts as 0 */
#define LOG2E 1.44269504f

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));

static inline Floats all(float x) { return x - (Floats){0}; }

/* The next 16 numbers of a row, or as many as are left and FORBIDDEN behind them. */
static inline Floats load(const float *row, int64_t left) {
    Floats x = all(FORBIDDEN);
    if (left >= LANES) memcpy(&x, row, sizeof x);
    else memcpy(&x, row, 4 * left);
    return x;
}

static inline void store(float *row, Floats x, int64_t left) {
    if (left >= LANES) memcpy(row, &x, sizeof x);
    else memcpy(row, &x, 4 * left);
}

static inline Floats larger(Floats a, Floats b) {
    Ints first = a > b;
    return (Floats)((first & (Ints)a) | (~first & (Ints)b));
}

static inline float sum(Floats x) {
    float total = 0;
    for (int i = 0; i < LANES; i++) total += x[i];
    return total;
}

/* 2^x for -126 <= x <= 0: 2^n times the series of exp(f ln 2) with |f| <= 1/2, which is exact to 1e-8. */
static inline Floats exp2_of(Floats x) {
    Ints n = __builtin_convertvector(x - 0.5f, Ints);
    Floats f = x - __builtin_convertvector(n, Floats), p = all(1.5252733804e-5f);
    p = p * f + 1.5403530394e-4f;
    p = p * f + 1.3333558146e-3f;
    p = p * f + 9.6181291076e-3f;
    p = p * f + 5.5504108665e-2f;
    p = p * f + 2.4022650696e-1f;
    p = p * f + 6.9314718056e-1f;
    p = p * f + 1.0f;
    return p * (Floats)((n + 127) << 23);
}
