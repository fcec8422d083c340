/* Softmax with statistics over rows of scores that are still in the first-level cache: one call where torch needs ten.

   Compiled on the machine that runs it (native.py), with the vector types that gcc and clang share, so that it does not
   depend on what an optimiser recognises. kernels/blocked.py says the same in torch operations and is the definition.
   Scores are in units of log 2 and at least FORBIDDEN. */

#include <stdint.h>
#include <string.h>

#define LANES 16
#define FORBIDDEN -1e30f
#define NOTHING -1e29f /* a row whose maximum is below this may attend to nothing */
#define LEAST -126.0f  /* 2 to this is the smallest normal number; what is below counts as 0 */

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

/* Turns a row of scores into w = exp2(score - top) in place; sums: top, the sum of w (1 if there
   is nothing to sum), the sum of w (score - top). */
static void one_row(float *row, int64_t seen, float *sums, int64_t apart) {
    Floats tops = all(FORBIDDEN), mass = {0}, energy = {0};
    for (int64_t j = 0; j < seen; j += LANES) tops = larger(load(row + j, seen - j), tops);
    float top = FORBIDDEN;
    for (int i = 0; i < LANES; i++) top = tops[i] > top ? tops[i] : top;
    for (int64_t j = 0; j < seen; j += LANES) {
        Floats score = load(row + j, seen - j) - top, held = larger(score, all(LEAST));
        Floats weight = (Floats)((Ints)exp2_of(held) & (score > LEAST)) + 0.0f * score; /* NaN stays NaN, here and below */
        mass += weight;
        energy += weight * held;
        store(row + j, weight, seen - j);
    }
    sums[apart] = seen ? sum(mass) : 1.0f, sums[2 * apart] = sum(energy);
    sums[0] = top + 0.0f * sums[apart];
}

/* tables: scores [count, rows, keys], one after the other; they become unnormalised probabilities.
   seen, step: row r may see the first min(keys, seen + step r) keys; what it may not see becomes 0.
   sums: row maximum, mass and energy, `apart` numbers from one to the next, `stride` from table to table.
   weights: [rows] of the queries that count in `received`, or null for all. received: [count, total], added to. */
void attention_rows(float *tables, int64_t count, int64_t rows, int64_t keys, int64_t seen, int64_t step, float *sums,
                    int64_t apart, int64_t stride, const float *weights, float *received, int64_t total) {
    for (int64_t t = 0; t < count; t++, sums += stride, received += total) {
        for (int64_t r = 0; r < rows; r++, tables += keys) {
            int64_t open = seen + step * r < keys ? seen + step * r : keys;
            if (open < 0) open = 0;
            one_row(tables, open, sums + r, apart);
            memset(tables + open, 0, 4 * (keys - open));
            if (sums[r] <= NOTHING || (weights && weights[r] == 0.0f)) continue;
            float share = (weights ? weights[r] : 1.0f) / sums[apart + r];
            for (int64_t j = 0; j < open; j++) received[j] += share * tables[j];
        }
    }
}
