/* One more token of a few texts through Llama's decoder layers, behind the keys and values of what they read before:
   one call where torch needs thirty per layer, each of which takes longer to be called than to be done.

   Compiled with rows.c (native.py). models/backbones/one_token.py says when it serves; the library's own forward is the
   definition. */

#include "lanes.h"

#define AT_ONCE 4 /* texts, and rows of a matrix, that are multiplied at once */
#define PARTS 11  /* pointers per layer */
#define UNROLLED _Pragma("GCC unroll 4") /* this and the next keep sums in registers until they are folded */
#define IN_MEMORY __asm__ volatile("" ::: "memory")

typedef float Eight __attribute__((vector_size(32)));
typedef float Four __attribute__((vector_size(16)));

/* The sum of sixteen numbers. */
static inline float folded(const float *x) {
    Eight a, b;
    Four c, d;
    memcpy(&a, x, sizeof a), memcpy(&b, x + 8, sizeof b);
    a += b;
    memcpy(&c, &a, sizeof c), memcpy(&d, (char *)&a + sizeof c, sizeof d);
    c += d;
    return (c[0] + c[1]) + (c[2] + c[3]);
}

static inline float dot(const float *a, const float *b, int64_t width) {
    Floats total = {0};
    float kept[LANES];
    for (int64_t j = 0; j < width; j += LANES) total += load(a + j, LANES) * load(b + j, LANES);
    store(kept, total, LANES);
    IN_MEMORY;
    return folded(kept);
}

/* AT_ONCE rows of a matrix times so many rows of x, all sums in registers: for that the number must be written out. */
#define TILE(TEXTS) static void tile##TEXTS(const float *x, const float *matrix, int64_t width, float *out, \
                                            int64_t outs, int add) { \
    Floats sums[TEXTS][AT_ONCE] = {0}; \
    float kept[TEXTS][AT_ONCE][LANES]; \
    for (int64_t j = 0; j < width; j += LANES) \
        UNROLLED for (int c = 0; c < AT_ONCE; c++) { \
            Floats weights = load(matrix + c * width + j, LANES); \
            UNROLLED for (int r = 0; r < TEXTS; r++) sums[r][c] += weights * load(x + r * width + j, LANES); \
        } \
    UNROLLED for (int r = 0; r < TEXTS; r++) \
        UNROLLED for (int c = 0; c < AT_ONCE; c++) store(kept[r][c], sums[r][c], LANES); \
    IN_MEMORY; \
    for (int r = 0; r < TEXTS; r++) \
        for (int c = 0; c < AT_ONCE; c++) \
            out[r * outs + c] = (add ? out[r * outs + c] : 0.0f) + folded(kept[r][c]); \
}
TILE(1) TILE(2) TILE(3) TILE(4)

/* out [texts, outs] = x [texts, width] times matrix [outs, width], transposed; added to what is there if asked. */
static void times(const float *x, int64_t texts, int64_t width, const float *matrix, int64_t outs, float *out, int add) {
    for (int64_t n = 0; n < outs; n += AT_ONCE) {
        const float *rows = matrix + n * width;
        int64_t r = 0;
        for (; r + 4 <= texts; r += 4) tile4(x + r * width, rows, width, out + r * outs + n, outs, add);
        if (texts - r == 3) tile3(x + r * width, rows, width, out + r * outs + n, outs, add);
        if (texts - r == 2) tile2(x + r * width, rows, width, out + r * outs + n, outs, add);
        if (texts - r == 1) tile1(x + r * width, rows, width, out + r * outs + n, outs, add);
    }
}

/* Each row over its root mean square, times the weights. */
static void normed(const float *x, int64_t texts, int64_t width, const float *weights, float eps, float *out) {
    for (int64_t r = 0; r < texts; r++, x += width, out += width) {
        float scale = 1.0f / __builtin_sqrtf(dot(x, x, width) / width + eps);
        for (int64_t j = 0; j < width; j++) out[j] = weights[j] * (x[j] * scale);
    }
}

/* Turns `heads` heads in place by the angles of their position: two equal halves. */
static void turned(float *x, int64_t heads, int64_t width, const float *cosine, const float *sine) {
    int64_t half = width / 2;
    for (int64_t h = 0; h < heads; h++, x += width)
        for (int64_t j = 0; j < half; j++) {
            float a = x[j], b = x[half + j];
            x[j] = a * cosine[j] - b * sine[j];
            x[half + j] = b * cosine[half + j] + a * sine[half + j];
        }
}

/* silu(gate) * up, into gate. */
static void gated(float *gate, const float *up, int64_t count) {
    for (int64_t j = 0; j < count; j += LANES) {
        Floats x = load(gate + j, LANES), down = larger(x, -x) * -LOG2E, one = all(1.0f);
        Floats e = exp2_of(larger(down, all(LEAST)));
        Ints above = x > 0.0f;
        Floats share = (Floats)((above & (Ints)one) | (~above & (Ints)e)) / (one + e);
        store(gate + j, x * share * load(up + j, LANES), LANES);
    }
}

/* What one query finds among `seen` keys and values, W wide; scores [seen] is scratch. */
static void mixed(const float *query, const float *keys, const float *values, int64_t seen, int64_t width, float scale,
                  float *scores, float *out) {
    float top = FORBIDDEN, mass = 0;
    for (int64_t t = 0; t < seen; t++) {
        scores[t] = scale * LOG2E * dot(query, keys + t * width, width);
        top = scores[t] > top ? scores[t] : top;
    }
    for (int64_t t = 0; t < seen; t += LANES)
        store(scores + t, exp2_of(larger(load(scores + t, seen - t) - top, all(LEAST))), seen - t);
    for (int64_t t = 0; t < seen; t++) mass += scores[t];
    for (int64_t j = 0; j < width; j += LANES) {
        Floats total = {0};
        for (int64_t t = 0; t < seen; t++) total += scores[t] * load(values + t * width + j, LANES);
        store(out + j, total / all(mass), LANES);
    }
}

/* x [texts, D]: inputs of the first layer, which become the states behind the last. parts [layers, PARTS]: per layer
   norm, q, k, v, o, norm, gate, up, down, keys and values; the last two [texts, G, room, W] hold `at` tokens and take the
   new one. sizes: D, query heads H, key heads G, W, width of the MLP, all widths multiples of LANES. cosine, sine [W].
   scratch: texts (2 D + 2 H W + 2 MLP) + at + 1 numbers. */
void decoder_token(float *x, float *const *parts, int64_t layers, int64_t texts, const int64_t *sizes, int64_t at,
                   int64_t room, const float *cosine, const float *sine, float eps, float scale, float *scratch) {
    int64_t D = sizes[0], H = sizes[1], G = sizes[2], W = sizes[3], MLP = sizes[4];
    float *inside = scratch, *queries = inside + texts * D, *fresh = queries + texts * H * W;
    float *gate = fresh + texts * H * W, *up = gate + texts * MLP, *scores = up + texts * MLP;
    for (int64_t l = 0; l < layers; l++, parts += PARTS) {
        normed(x, texts, D, parts[0], eps, inside);
        times(inside, texts, D, parts[1], H * W, queries, 0);
        for (int64_t b = 0; b < texts; b++) turned(queries + b * H * W, H, W, cosine, sine);
        for (int kind = 0; kind < 2; kind++) { /* keys, then values */
            times(inside, texts, D, parts[2 + kind], G * W, fresh, 0);
            for (int64_t b = 0; b < texts; b++) {
                if (!kind) turned(fresh + b * G * W, G, W, cosine, sine);
                for (int64_t g = 0; g < G; g++)
                    memcpy(parts[9 + kind] + ((b * G + g) * room + at) * W, fresh + (b * G + g) * W, 4 * W);
            }
        }
        for (int64_t b = 0; b < texts; b++)
            for (int64_t h = 0; h < H; h++) {
                int64_t from = (b * G + h / (H / G)) * room * W;
                mixed(queries + (b * H + h) * W, parts[9] + from, parts[10] + from, at + 1, W, scale, scores,
                      fresh + (b * H + h) * W);
            }
        times(fresh, texts, H * W, parts[4], D, x, 1);
        normed(x, texts, D, parts[5], eps, inside);
        times(inside, texts, D, parts[6], MLP, gate, 0);
        times(inside, texts, D, parts[7], MLP, up, 0);
        gated(gate, up, texts * MLP);
        times(gate, texts, MLP, parts[8], D, x, 1);
    }
}
