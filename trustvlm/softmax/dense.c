/* What is kept of a block of logits and similarities, one query after the other while its row is in
 * the cache: the labels that lead, and the softmax over all of them. trustvlm/softmax/dense.py has
 * the same in NumPy, and says what the arguments are.
 *
 * Rows are copied into a scratch of whole vectors, filled up with −∞, where labels that are taken
 * become −∞ as well.
 */
#include "loops.h"

#define LOG2_E 1.44269504f
#define ONE_BY_ONE 8    /* up to this number of leaders are taken one after the other */
#define TOGETHER 64     /* most leaders of a side */
#define WIDEST (2 * TOGETHER + ONE_BY_ONE)
#define FEW 256         /* numbers of a row that are looked at again and again */
#define SHARED 65536    /* numbers of a block from which threads share it */

/* A scratch of one thread: room for padded numbers each. */
typedef struct {
    float *row, *powers, *values;   /* values: of those at `places` */
    int32_t *places;
    uint8_t *taken;                 /* which labels have a column */
    int64_t padded;                 /* labels, rounded up to whole vectors */
} Scratch;

/* Fills a row up with −∞ to whole vectors; returns how many numbers these have. */
INLINE int64_t pad(float *row, int64_t count)
{
    int64_t padded = (count + LANES - 1) / LANES * LANES;
    for (int64_t i = count; i < padded; i++) row[i] = -INFINITY;
    return padded;
}

INLINE void copy(float *to, const float *row, int64_t count)
{
    memcpy(to, row, count * sizeof *row);
    pad(to, count);
}

#define BETTER(Vector, Mask, a, b, mask) (Vector)(((mask) & (Mask)(a)) | (~(mask) & (Mask)(b)))

/* The largest of 16 numbers. */
INLINE float largest(Floats x)
{
    Eight a = ((Eight *)&x)[0], b = ((Eight *)&x)[1], half = BETTER(Eight, EightInts, a, b, a > b);
    Four c = ((Four *)&half)[0], d = ((Four *)&half)[1], four = BETTER(Four, FourInts, c, d, c > d);
    float e = four[0] > four[1] ? four[0] : four[1], f = four[2] > four[3] ? four[2] : four[3];
    return e > f ? e : f;
}

/* The smallest of 16 numbers. */
INLINE int32_t smallest(Ints x)
{
    EightInts a = ((EightInts *)&x)[0], b = ((EightInts *)&x)[1];
    EightInts half = BETTER(EightInts, EightInts, a, b, a < b);
    FourInts c = ((FourInts *)&half)[0], d = ((FourInts *)&half)[1];
    FourInts four = BETTER(FourInts, FourInts, c, d, c < d);
    int32_t e = four[0] < four[1] ? four[0] : four[1], f = four[2] < four[3] ? four[2] : four[3];
    return e < f ? e : f;
}

/* The place of the largest number of a padded row, the first of equals. */
INLINE int64_t place_of_largest(const float *row, int64_t padded)
{
    Floats most = *(const Floats *)row;
    Ints place = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, best = place;
    for (int64_t at = LANES; at < padded; at += LANES) {
        Floats values = *(const Floats *)(row + at);
        Ints better = values > most;
        place += LANES;
        most = larger(values, most), best = either(better, place, best);
    }
    float top = largest(most);
    return smallest(either(most == top, best, (Ints){0} + INT32_MAX));
}

/* The k largest numbers of a padded row, best first, go to the front of the places, and become −∞.
 * Returns how many there are. */
INLINE int64_t one_by_one(float *row, int64_t padded, int64_t k, int32_t *places)
{
    for (int64_t held = 0; held < k; held++) {
        int64_t place = place_of_largest(row, padded);
        if (row[place] == -INFINITY) return held;
        places[held] = place, row[place] = -INFINITY;
    }
    return k;
}

/* How many numbers of a padded row are at least `least`. */
INLINE int64_t count_from(const float *row, int64_t padded, float least)
{
    Ints count = {0};
    for (int64_t at = 0; at < padded; at += LANES) count -= *(const Floats *)(row + at) >= least;
    int64_t sum = 0;
    for (int i = 0; i < LANES; i++) sum += count[i];
    return sum;
}

/* A number that the 64 largest of a padded row are not smaller than; top: the largest of all. */
INLINE float floor_of(const float *row, int64_t padded, float *top)
{
    Floats most[4] = {ALL(-INFINITY), ALL(-INFINITY), ALL(-INFINITY), ALL(-INFINITY)};
    for (int64_t at = 0; at < padded; at += 4 * LANES)
        for (int i = 0; i < 4 && at + i * LANES < padded; i++)
            most[i] = larger(*(const Floats *)(row + at + i * LANES), most[i]);
    *top = largest(larger(larger(most[0], most[1]), larger(most[2], most[3])));
    return -largest(larger(larger(-most[0], -most[1]), larger(-most[2], -most[3])));
}

/* The places of the numbers from `least` on, in order; returns how many there are. */
INLINE int64_t keep(const float *row, int64_t count, float least, int32_t *places)
{
    int64_t held = 0;
    for (int64_t i = 0; i < count; i++) places[held] = i, held += row[i] >= least;
    return held;
}

/* The places of the k ≤ 64 largest numbers of the scratch's row, of equals the first. Returns how
 * many there are. */
INLINE int64_t select_by_bisection(Scratch *scratch, int64_t k)
{
    const float *row = scratch->row;
    float *values = scratch->values, high, low = floor_of(row, scratch->padded, &high);
    int32_t *places = scratch->places;
    int64_t padded = scratch->padded, held = padded, kept, count;
    if (high == -INFINITY) return 0;
    if (low == -INFINITY) {
        low = high;
        for (int64_t i = 0; i < padded; i++) low = row[i] < low && row[i] > -INFINITY ? row[i] : low;
    }
    if (padded > FEW) { /* the others are left out before */
        held = keep(row, padded, low, places);
        for (int64_t i = 0; i < held; i++) values[i] = row[places[i]];
        padded = pad(values, held);
        row = values;
    }
    count = count_from(row, padded, low);
    if (count > k && count_from(row, padded, high) >= k) low = high, high = INFINITY;
    for (float middle; count > k && (middle = low + (high - low) / 2) > low && middle < high;) {
        int64_t from_middle = count_from(row, padded, middle);
        if (from_middle >= k) low = middle, count = from_middle;
        else high = middle;
    }
    int32_t *chosen = places + held;
    kept = keep(row, held, count > k ? high : low, chosen);
    for (int64_t i = 0; kept < k && i < held && count > k; i++)
        if (row[i] == low) chosen[kept++] = i;
    for (int64_t i = 0; i < kept; i++) places[i] = row == values ? places[chosen[i]] : chosen[i];
    return kept;
}

/* The places of the k largest of the 16 numbers of a row, best first: each goes to its rank. Returns
 * how many are larger than −∞, at most k. */
INLINE int64_t rank(const float *row, int64_t k, int32_t *places)
{
    static const int32_t behind[2 * LANES] = {[LANES] = -1, -1, -1, -1, -1, -1, -1, -1,
                                              -1, -1, -1, -1, -1, -1, -1, -1};
    Floats values = *(const Floats *)row;
    Ints rank = {0};
    int64_t held = 0;
    for (int i = 0; i < LANES; i++) {
        Floats other = ALL(row[i]);
        rank -= (other > values) | ((other == values) & *(const Ints *)(behind + LANES - 1 - i));
        held += row[i] > -INFINITY;
    }
    int32_t ranks[LANES];
    *(Ints *)ranks = rank;
    for (int i = 0; i < LANES; i++) places[ranks[i]] = i;
    return held < k ? held : k;
}

/* Finds the k largest numbers of the scratch's row that are larger than −∞, the first `ordered` of
 * them best first. Returns how many there are. */
INLINE int64_t lead(Scratch *scratch, int64_t k, int64_t ordered)
{
    if (scratch->padded == LANES) return rank(scratch->row, k, scratch->places);
    if (k <= ONE_BY_ONE) return one_by_one(scratch->row, scratch->padded, k, scratch->places);
    int64_t held = select_by_bisection(scratch, k);
    float values[TOGETHER];
    int32_t *places = scratch->places;
    for (int64_t i = 0; i < held; i++) values[i] = scratch->row[places[i]];
    int64_t padded = pad(values, held);
    for (int64_t i = 0; i < ordered && i < held; i++) {
        int64_t best = place_of_largest(values, padded);
        int32_t place = places[best];
        values[best] = values[i], places[best] = places[i];
        values[i] = -INFINITY, places[i] = place;
    }
    return held;
}

/* The powers, logits at first, become e^(logit − top), 0 at `best`. sums: of their values, of their
 * squares, and of each times its logit − top. */
INLINE void add_up(float *powers, int64_t padded, int64_t best, double *sums)
{
    float top = powers[best];
    powers[best] = -INFINITY;
    sums[0] = sums[1] = sums[2] = 0;
    for (int64_t at = 0; at < padded;) {
        Floats total = ALL(0), squared = ALL(0), weighted = ALL(0);
        for (int64_t stop = at + CHUNK; at < stop && at < padded; at += LANES) {
            Floats x = larger((*(Floats *)(powers + at) - top) * LOG2_E, ALL(FLOOR));
            Floats power = power_of_two(x);
            *(Floats *)(powers + at) = power;
            total += power, squared += power * power, weighted += power * x;
        }
        sums[0] += summed(total), sums[1] += summed(squared), sums[2] += summed(weighted);
    }
    sums[2] /= LOG2_E;
    powers[best] = 0;
}

/* The sum of a padded row. */
INLINE double added(const float *row, int64_t padded)
{
    double sum = 0;
    for (int64_t at = 0; at < padded;) {
        Floats part = ALL(0);
        for (int64_t stop = at + CHUNK; at < stop && at < padded; at += LANES)
            part += *(const Floats *)(row + at);
        sum += summed(part);
    }
    return sum;
}

/* Whether at least `most` numbers of a row are larger than that at `place`. */
INLINE int is_behind(const float *row, int64_t count, int64_t place, int64_t most)
{
    int32_t before = 0;
    for (int64_t i = 0; i < count; i++) before += row[i] > row[place];
    return before >= most;
}

/* Adds the labels at the first `count` places that have no slot yet. Returns how many have one. */
INLINE int64_t add_new(Scratch *scratch, int64_t count, const float *logits, int64_t *slots,
                       int64_t held)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t place = scratch->places[i];
        slots[held] = place; /* without a jump: it could not be predicted */
        held += !scratch->taken[place] & (logits[place] > -INFINITY);
        scratch->taken[place] = 1;
    }
    return held;
}

/* What a call of trustvlm_columns asks for: `text` leaders, the first `ordered` of them best first;
 * the `nearest` labels of largest similarity, and the `sums` of largest p + weight · similarity, that
 * are not among the columns before them; `most`: see `beyond`. Each as far as there are labels. */
typedef struct {
    int64_t text, ordered, nearest, sums, most;
    float weight, imputed;
} Choice;

/* The sums p + weight · similarity become the row of the scratch. */
INLINE void add_similarity(Scratch *scratch, const float *logits, const float *similarity,
                           int64_t count, float share, const Choice *choice)
{
    float *row = scratch->row, *powers = scratch->powers;
    for (int64_t i = 0; i < count; i++) {
        float image = !similarity ? 0 : similarity[i] > -INFINITY ? similarity[i] : choice->imputed;
        float sum = powers[i] * share + choice->weight * image;
        row[i] = logits[i] > -INFINITY ? sum : -INFINITY;
    }
    pad(row, count);
}

/* Writes the columns of a query, the first of which is the best: numbers are logits, those behind
 * them by `apart` similarities and p. The scratch is cleared of these labels. Returns Σe^(l − top) of
 * all labels but the best, in double precision as far as they have columns; rest: of the others. */
INLINE double write(Scratch *scratch, const float *logits, const float *similarity,
                    const int64_t *slots, int64_t held, int64_t *labels, double *numbers,
                    int64_t apart, double *rest)
{
    double powers[WIDEST + 8];
    Doubles sum = {0};
    for (int64_t i = 0; i < held; i++) {
        int64_t place = slots[i];
        float image = similarity ? similarity[place] : -INFINITY;
        double below = (double)logits[place] - logits[slots[0]];
        labels[i] = place, numbers[i] = logits[place];
        numbers[i + apart] = image > -INFINITY ? image : NAN;
        powers[i] = below > LOWEST ? below : LOWEST;
        scratch->taken[place] = 0, scratch->powers[place] = 0;
    }
    powers[0] = LOWEST;
    for (int64_t i = 0; i < 8; i++) powers[held + i] = LOWEST;
    for (int64_t i = 0; i < held; i += 8)
        sum += *(Doubles *)(powers + i) = exponential(*(Doubles *)(powers + i));
    *rest = added(scratch->powers, scratch->padded);
    double others = *rest;
    for (int64_t i = 0; i < 8; i++) others += sum[i];
    for (int64_t i = 1; i < held; i++) numbers[i + 2 * apart] = powers[i] / (1 + others);
    if (held) numbers[2 * apart] = 1 / (1 + others);
    return others;
}

/* The columns of n queries, and the softmax over all labels.
 *
 * logits, leading, similarity: (n, count); leading: the logits that leaders are chosen by, −∞ of
 * labels that are none. similarity: −∞ where there is none, in the place of which `imputed` is
 * added; may be NULL. block: (4, n, width) labels (as int64, −1 behind the last), logits,
 * similarities, p; there −∞, NaN, 0. totals: (5, n) log of the partition, probability of all labels
 * without a column, Σ p·log p, Σ p·(1 − p), and whether a column of the sums is `beyond`: behind
 * `most` others on both sides. Returns −1 where there is no memory.
 */
PORTABLE int trustvlm_columns(const float *logits, const float *leading, const float *similarity,
                              int64_t n, int64_t count, const Choice *choice, int64_t width,
                              double *block, double *totals)
{
    int failed = 0;
    int64_t padded = (count + LANES - 1) / LANES * LANES, apart = n * width;
#pragma omp parallel if (n > 1 && n * count > SHARED)
    {
        float *floats = malloc((3 * padded + 1) * sizeof *floats);
        int32_t *places = malloc((2 * padded + 2) * sizeof *places);
        uint8_t *taken = calloc(count, 1);
        Scratch scratch = {floats, floats + padded, floats + 2 * padded, places, taken, padded};
        if (!floats || !places || !taken) failed = -1;
#pragma omp for schedule(static)
        for (int64_t query = 0; query < n; query++) {
            if (failed) continue;
            const float *l = logits + query * count, *c = similarity ? similarity + query * count : 0;
            int64_t slots[WIDEST + 1], held, beyond = 0;
            double *numbers = block + apart + query * width, *total = totals + query, sums[3], rest;
            float *powers = scratch.powers;

            copy(scratch.row, leading + query * count, count);
            held = add_new(&scratch, lead(&scratch, choice->text, choice->ordered), l, slots, 0);
            int64_t best = held ? slots[0] : 0;
            copy(powers, l, count);
            add_up(powers, padded, best, sums);
            if (c && held < width) {
                copy(scratch.row, c, count);
                held = add_new(&scratch, lead(&scratch, choice->nearest, 0), l, slots, held);
            }
            if (choice->sums && held < width) {
                powers[best] = 1;
                add_similarity(&scratch, l, c, count, 1 / (1 + sums[0]), choice);
                powers[best] = 0;
                int64_t before = held, most = choice->most;
                held = add_new(&scratch, lead(&scratch, choice->sums, 0), l, slots, held);
                for (int64_t i = before; count > most && i < held; i++)
                    beyond |= is_behind(l, count, slots[i], most) &&
                              (!c || is_behind(c, count, slots[i], most));
            }
            int64_t *labels = (int64_t *)block + query * width;
            double others = write(&scratch, l, c, slots, held, labels, numbers, apart, &rest);
            double all = 1 + others, log_all = log1p(others);
            for (int64_t i = held; i < width; i++) {
                labels[i] = -1, numbers[i] = -INFINITY;
                numbers[i + apart] = NAN, numbers[i + 2 * apart] = 0;
            }
            double impurity = (others * (1 + all) - sums[1]) / (all * all);
            total[0] = l[best] + log_all, total[n] = rest / all;
            total[2 * n] = sums[2] / all - log_all;
            total[3 * n] = impurity > 0 ? impurity : 0;
            total[4 * n] = beyond;
        }
        free(floats), free(places), free(taken);
    }
    return failed;
}

/* ---- sums of powers ---- */

/* out (n) becomes log Σ e^(scale · x) of each row of `count` numbers, −∞ among them, scale > 0. */
PORTABLE void trustvlm_log_sums(const float *rows, int64_t n, int64_t count, float scale, double *out)
{
    for (int64_t row = 0; row < n; row++, rows += count) {
        Floats most = ALL(-INFINITY);
        int64_t whole = count / LANES * LANES;
        for (int64_t at = 0; at < whole; at += LANES) most = larger(most, *(const Floats *)(rows + at));
        float top = largest(most), rest[LANES];
        for (int64_t at = whole; at < count; at++) top = rows[at] > top ? rows[at] : top;
        memcpy(rest, rows + whole, (count - whole) * sizeof *rest);
        pad(rest, count - whole);
        double sum = 0;
        for (int64_t at = 0; at < count;) {
            Floats part = ALL(0);
            for (int64_t stop = at + CHUNK; at < stop && at < count; at += LANES) {
                Floats x = *(const Floats *)(at < whole ? rows + at : rest);
                part += power_of_two(larger((x - top) * (scale * LOG2_E), ALL(FLOOR)));
            }
            sum += summed(part);
        }
        out[row] = scale * (double)top + log(sum);
    }
}
