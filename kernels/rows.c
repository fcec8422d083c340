/* Statistics of rows that are still in the cache, of attention scores and of logits: one call where torch needs ten.

   Compiled on the machine that runs it (native.py), with the vector types that gcc and clang share, so that it does not
   depend on what an optimiser recognises. kernels/blocked.py and kernels/vocabulary.py say the same in torch operations
   and are the definition. */

#include "lanes.h"

#define NOTHING -1e29f /* a row whose maximum is below this may attend to nothing */
#define UNDERFLOW -87.0f /* of logits below the largest: what is lower counts as this */
#define MOST 128   /* entries that a tile of logits can be asked for */
#define WIDEST 1024 /* lanes of a row at most */

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

/* tables: scores [count, rows, keys] in units of log 2, at least FORBIDDEN, one after the other; they become unnormalised probabilities.
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

/* Puts a value among the largest so far, best first; of equals the first stays first. */
static inline void insert(float value, int64_t id, float *best, int64_t *ids, int64_t found) {
    int64_t at = found - 1;
    for (; at > 0 && best[at - 1] < value; at--) best[at] = best[at - 1], ids[at] = ids[at - 1];
    best[at] = value, ids[at] = id;
}

/* The found largest of every lane's maximum; returns the maximum of all. Lane l has the entries l, l + lanes, ... */
static float lane_maxima(const float *row, int64_t width, int64_t lanes, float *tops) {
    for (int64_t l = 0; l < lanes; l += LANES) store(tops + l, load(row + l, width - l), LANES);
    for (int64_t first = lanes; first < width; first += lanes)
        for (int64_t l = 0; l < lanes && first + l < width; l += LANES)
            store(tops + l, larger(load(row + first + l, width - first - l), load(tops + l, LANES)), LANES);
    float top = FORBIDDEN;
    for (int64_t l = 0; l < lanes; l++) top = tops[l] > top ? tops[l] : top;
    return top;
}

/* The found largest entries and their columns, best first; -inf and column 0 where there are fewer. They lie in the
   lanes with the found largest maxima, so only those are searched. */
static void largest(const float *row, int64_t width, int64_t lanes, const float *tops, int64_t found, float *best,
                    int64_t *ids) {
    float chosen[MOST];
    int64_t order[MOST], many = found < lanes ? found : lanes;
    for (int64_t i = 0; i < found; i++) chosen[i] = best[i] = -__builtin_inff(), order[i] = ids[i] = 0;
    for (int64_t l = 0; l < lanes; l++) if (tops[l] > chosen[many - 1]) insert(tops[l], l, chosen, order, many);
    for (int64_t i = 0; i < many && chosen[i] > -__builtin_inff(); i++)
        for (int64_t j = order[i]; j < width; j += lanes)
            if (row[j] > best[found - 1]) insert(row[j], j, best, ids, found);
}

/* The sum of exp(share (logit - top)), and of that times (logit - top) if `energy` is asked for; the summands go to
   `weights` if it is not null. */
static float masses(const float *row, int64_t width, float top, float share, float *energy, float *weights) {
    Floats mass = {0}, heat = {0};
    for (int64_t j = 0; j < width; j += LANES) {
        Floats score = load(row + j, width - j) - top, held = larger(score, all(UNDERFLOW));
        Floats weight = exp2_of(larger(held * (share * LOG2E), all(LEAST)));
        weight = (Floats)((Ints)weight | (Ints)(score != score)); /* NaN stays NaN */
        if (width - j < LANES) for (int64_t i = width - j; i < LANES; i++) weight[i] = 0;
        mass += weight;
        heat += weight * held;
        if (weights) store(weights + j, weight, width - j);
    }
    if (energy) *energy = sum(heat);
    return sum(mass);
}

/* The first of `count` weights, `apart` numbers from one to the next, at which their running sum exceeds `share` of the
   whole; `before`: the running sum so far. In double: in float a token beyond 24 bits could never be drawn. */
static int64_t inverse_cdf(const float *weights, int64_t count, int64_t apart, double share, double *before) {
    double total = 0, running = 0;
    for (int64_t i = 0; i < count; i++) total += weights[i * apart];
    double target = share * total, edge = total * (1 - 0x1p-53); /* rounding may reach the total */
    if (target > edge) target = edge;
    int64_t i = 0;
    for (; i < count - 1 && running + weights[i * apart] <= target; i++) running += weights[i * apart];
    *before = running;
    return i;
}

/* The same in two steps, for long rows: the lane, then the place in it, with what is left of the share. */
static int64_t draw(const float *weights, int64_t width, int64_t lanes, double share) {
    float sums[2 * WIDEST];
    double before, total = 0, members = 0;
    int64_t even = width - width % lanes, tail = width - even, long_ = even / lanes;
    if (long_ < 4) return inverse_cdf(weights, width, 1, share, &before);
    memcpy(sums, weights, 4 * lanes);
    for (int64_t first = lanes; first < even; first += lanes)
        for (int64_t l = 0; l < lanes; l++) sums[l] += weights[first + l];
    memcpy(sums + lanes, weights + even, 4 * tail);
    int64_t lane = inverse_cdf(sums, lanes + tail, 1, share, &before);
    if (lane >= lanes) return even + lane - lanes;
    for (int64_t l = 0; l < lanes + tail; l++) total += sums[l];
    for (int64_t i = 0; i < long_; i++) members += weights[i * lanes + lane];
    double left = (share * total - before) / members;
    left = left > 0 ? left < 1 ? left : 1 : 0;
    return inverse_cdf(weights + lane, long_, lanes, left, &before) * lanes + lane;
}

/* logits [rows, width], `stride` numbers from row to row; sums [4, rows]: the largest, mass and energy at temperature 1,
   mass at `temperature`; best, ids [rows, found]. places [rows] or null: where in the running sum at `temperature` a
   column is drawn, into drawn [rows]; weights [width] is for that. lanes: LANES, or a multiple of it that is at most
   WIDEST and the width; draw_lanes: at most WIDEST. found: at most MOST. */
void vocabulary_rows(const float *logits, int64_t rows, int64_t width, int64_t stride, int64_t lanes, float temperature,
                     int64_t found, float *sums, float *best, int64_t *ids, const double *places, int64_t *drawn,
                     int64_t draw_lanes, float *weights) {
    float tops[WIDEST];
    for (int64_t r = 0; r < rows; r++, logits += stride, best += found, ids += found, sums++) {
        float top = lane_maxima(logits, width, lanes, tops);
        int same = temperature == 1.0f || temperature == 0.0f;
        largest(logits, width, lanes, tops, found, best, ids);
        sums[0] = top;
        sums[rows] = masses(logits, width, top, 1.0f, sums + 2 * rows, same && places ? weights : 0);
        sums[3 * rows] = same ? sums[rows] : masses(logits, width, top, 1.0f / temperature, 0, places ? weights : 0);
        if (places) drawn[r] = draw(weights, width, draw_lanes, places[r]);
    }
}
