/* What comes before a block of logits, and after it: unit vectors of queries, exact products with a
 * few rows, and the choice of a label, its rival and the nearest label. trustvlm/softmax/native.py calls it.
 */
#include "loops.h"

/* ---- unit vectors ---- */

/* out (n, dim) become the rows, each divided by its norm. Returns whether all squared norms are
 * between `least` and `most`; of a row with NaN none is. */
PORTABLE int trustvlm_unit(const float *rows, int64_t n, int64_t dim, float least, float most,
                           float *out)
{
    int usual = 1;
    for (int64_t row = 0; row < n && usual; row++, rows += dim, out += dim) {
        Floats sums[4] = {ALL(0), ALL(0), ALL(0), ALL(0)};
        int64_t at = 0;
        for (; at + 4 * LANES <= dim; at += 4 * LANES)
            for (int i = 0; i < 4; i++) {
                Floats x = *(const Floats *)(rows + at + i * LANES);
                sums[i] += x * x;
            }
        float square = summed((sums[0] + sums[1]) + (sums[2] + sums[3]));
        for (; at < dim; at++) square += rows[at] * rows[at];
        usual = square > least && square < most;
        float scale = 1 / sqrt(square);
        for (at = 0; at + LANES <= dim; at += LANES)
            *(Floats *)(out + at) = *(const Floats *)(rows + at) * scale;
        for (; at < dim; at++) out[at] = rows[at] * scale;
    }
    return usual;
}

/* ---- exact products of queries with a few rows each ---- */

#define DOUBLES 8           /* numbers that are multiplied at once */
#define AHEAD 3             /* rows that are fetched before they are read */
#define MANY 65536          /* numbers from which threads share the work */

/* Row `slot` of the two pieces: the first `held` rows, and the others. */
INLINE const float *row_of(const float *first, int64_t held, const float *rest, int64_t dim,
                           int64_t slot)
{
    return slot < held ? first + slot * dim : rest + (slot - held) * dim;
}

/* The product in double precision: of equal rows it has equal bits. */
INLINE double product(const float *row, const double *query, int64_t dim)
{
    Doubles sums[4] = {{0}, {0}, {0}, {0}}, sum;
    int64_t at = 0;
    for (; at + 4 * DOUBLES <= dim; at += 4 * DOUBLES)
        for (int i = 0; i < 4; i++) {
            Doubles wide = __builtin_convertvector(*(const Eight *)(row + at + i * DOUBLES), Doubles);
            sums[i] += wide * *(const Doubles *)(query + at + i * DOUBLES);
        }
    sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    double total = 0;
    for (int i = 0; i < DOUBLES; i++) total += sum[i];
    for (; at < dim; at++) total += row[at] * query[at];
    return total;
}

/* out (n, m) become the products of queries (n, dim) and the rows in their slots (n, m), NaN where a
 * slot is −1. The rows lie in two pieces, the first `held` of them in `first`. */
PORTABLE void trustvlm_products(const float *first, int64_t held, const float *rest, int64_t dim,
                                const double *queries, int64_t n, const int64_t *slots, int64_t m,
                                double *out)
{
#pragma omp parallel for schedule(static) if (n * m * dim > MANY)
    for (int64_t query = 0; query < n; query++)
        for (int64_t i = query * m, stop = i + m; i < stop; i++) {
            if (i + AHEAD < stop && slots[i + AHEAD] >= 0) {
                const float *next = row_of(first, held, rest, dim, slots[i + AHEAD]);
                for (int64_t at = 0; at < dim; at += LANES) __builtin_prefetch(next + at);
            }
            out[i] = NAN;
            if (slots[i] >= 0)
                out[i] = product(row_of(first, held, rest, dim, slots[i]), queries + query * dim, dim);
        }
}

/* ---- choosing among columns ---- */

/* What differs by less is not told apart: of values that are proportional to themselves, of
 * logits, and of similarities. */
typedef struct {
    double relative, logit, similarity;
} Rounding;

enum { UNSURE = 1, BY_NAME = 2 };   /* equal within rounding, or exactly 0 */

/* The column of the largest of `width` values; those without a label and the column `but` do not
 * take part. Adds to `doubt` where others are as large. */
INLINE int64_t best_of(const double *values, const int64_t *slots, int64_t width, int64_t but,
                       double relative, double absolute, int *doubt)
{
    double tops[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY}, top = -INFINITY;
    int64_t best = 0, equal = 0, i = 0;
#define VALUE(i) (slots[i] >= 0 && (i) != but ? values[i] : -INFINITY)
    for (; i + 4 <= width; i += 4) /* four at a time, as each waits for the one before */
        for (int j = 0; j < 4; j++) tops[j] = VALUE(i + j) > tops[j] ? VALUE(i + j) : tops[j];
    for (; i < width; i++) top = VALUE(i) > top ? VALUE(i) : top;
    for (int j = 0; j < 4; j++) top = tops[j] > top ? tops[j] : top;
    if (top == -INFINITY) return 0;
    double least = top - relative * fabs(top) - absolute;
    for (i = 0; i < width; i++) equal += VALUE(i) >= least;
    while (VALUE(best) != top) best++;
    if (equal > 1) *doubt |= top ? UNSURE : BY_NAME;
    return best;
}

/* What is chosen among the columns of a block of trustvlm_columns: the label, which is the first
 * column or, with `relabels`, that of the largest quantity; its rival; the nearest label.
 *
 * quantity, trust: (n, width). listed: how many columns are to be in order. places: (6, n) columns
 * of label and rival; slots of label, of the first column where that is another one, of the nearest
 * label and of the rival, −1 where there is none. numbers: (8, n) p, similarity, trust and quantity
 * of the label; similarity of the nearest; trust, p and quantity of the rival; NaN where there is
 * none. flags: (2, n) whether the label is the nearest; doubts. Returns all doubts.
 */
PORTABLE int trustvlm_choose(const double *block, const double *quantity, const double *trust,
                             int64_t n, int64_t width, int64_t listed, int relabels,
                             const Rounding *rounding, int64_t *places, double *numbers,
                             uint8_t *flags)
{
    int64_t apart = n * width;
    int doubts = 0;
    for (int64_t row = 0; row < n; row++) {
        const int64_t *slots = (const int64_t *)block + row * width;
        const double *logit = block + apart + row * width, *similarity = logit + apart;
        const double *p = similarity + apart, *q = quantity + row * width, *t = trust + row * width;
        int doubt = 0;
        for (int64_t i = 1; i <= listed && i < width; i++)
            if (logit[i] > -INFINITY && logit[i] >= logit[i - 1] - rounding->logit) doubt = UNSURE;
        int64_t label = 0, rival, near;
        if (relabels) label = best_of(q, slots, width, -1, rounding->relative, 0, &doubt);
        rival = best_of(q, slots, width, label, rounding->relative, 0, &doubt);
        near = best_of(similarity, slots, width, -1, 0, rounding->similarity, &doubt);
        int has_rival = rival != label && slots[rival] >= 0 && q[rival] > -INFINITY;
        int has_near = similarity[near] > -INFINITY;
        int64_t of_places[] = {label, rival, slots[label], label ? slots[0] : -1,
                               has_near ? slots[near] : -1, has_rival ? slots[rival] : -1};
        double of_numbers[] = {p[label], similarity[label], t[label], q[label],
                               has_near ? similarity[near] : NAN, has_rival ? t[rival] : NAN,
                               has_rival ? p[rival] : NAN, has_rival ? q[rival] : -INFINITY};
        for (int i = 0; i < 6; i++) places[row + i * n] = of_places[i];
        for (int i = 0; i < 8; i++) numbers[row + i * n] = of_numbers[i];
        flags[row] = has_near && near == label, flags[row + n] = doubt & UNSURE;
        doubts |= doubt;
    }
    return doubts;
}
