/* The inner loops of a pass over 16-bit rows: products of rows and queries, and what a pass keeps of
 * the logits. Built when the package is installed (hatch_build.py); trustvlm/softmax/native.py calls
 * it, and says what happens without it.
 *
 * Matrices are row-major, and rows hold the bits of bfloat16 numbers. No function allocates beyond a
 * scratch of its own, keeps a pointer, or reads what the caller has not given sizes of.
 */
#include <unistd.h>

#include "loops.h"

#define BESIDE 4        /* rows that few queries read side by side */
#define TILE 16         /* rows and columns of a tile of logits */
#define STEP 32         /* numbers of a row that one tile instruction takes */
#define TILE_HALF 512   /* 16-bit numbers of a tile */
#define GROUP 16        /* tiles of rows that are held beside the queries, a multiple of 4 */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "rows are little-endian, and are read as words"
#endif
#define ONE 16384       /* 1 of a row as a whole number; the norm of a row is at most 2 */
#define LONGEST 65000.0 /* norm of a query as whole numbers: 2 · ONE · LONGEST fits 32 bits */
#define LEAST 0x1p-62f  /* the square of which is a normal float */
#define PREFETCH(here) __builtin_prefetch((const char *)(here) + 6144)

uint32_t trustvlm_source(void) { return SOURCE; }

INLINE float widened(uint16_t half) { return (Word){.bits = (uint32_t)half << 16}.value; }

INLINE uint16_t rounded(float wide)
{
    uint32_t bits = (Word){.value = wide}.bits;
    return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

/* ---- products of few queries: limited by reading the rows ---- */

/* out (n, ·), out_stride apart, becomes queries (n, dim) · rows (count, dim)ᵀ. Of each 32 numbers of a
 * query those at even places come first, then those at odd ones: so lie the halves of 16 words. */
PORTABLE void trustvlm_few(const uint16_t *rows, int64_t count, int64_t dim, const float *queries,
                           int64_t n, float *out, int64_t out_stride)
{
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < count; first += BESIDE) {
        const uint16_t *half[BESIDE]; /* behind the last row it comes again */
        for (int64_t i = 0; i < BESIDE; i++)
            half[i] = rows + (first + i < count ? first + i : count - 1) * dim;
        for (int64_t query = 0; query < n; query++) {
            const float *other = queries + query * dim;
            const uint16_t *next = half[0]; /* in the order of memory: twice as fast as row by row */
            Floats sums[BESIDE] = {ALL(0)};
            int64_t k = 0;
            for (; k + 2 * LANES <= dim; k += 2 * LANES) {
                const Floats *two = (const Floats *)(other + k);
                for (int i = 0; i < BESIDE; i++, next += 2 * LANES) {
                    Words words = *(const Words *)(half[i] + k);
                    PREFETCH(next);
                    sums[i] += (Floats)(words << 16) * two[0];
                    sums[i] += (Floats)(words & 0xFFFF0000) * two[1];
                }
            }
            for (int64_t i = 0; i < BESIDE && first + i < count; i++) {
                float sum = summed(sums[i]);
                for (int64_t at = k; at < dim; at++) sum += widened(half[i][at]) * other[at];
                out[query * out_stride + first + i] = sum;
            }
        }
    }
}

/* ---- products of many queries, with the matrix units of a processor ---- */

enum { NARROW, WIDE, PAIRS, TILES }; /* of trustvlm_units; native.py has the same numbers */

static int64_t over(int64_t count, int64_t size) { return (count + size - 1) / size; }

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>

typedef int32_t Pair __attribute__((aligned(2), may_alias));

#define MATRIX __attribute__((target("amx-tile,amx-bf16,avx512f")))
#define PAIRED __attribute__((target("avx512f,avx512bw,avx512vnni")))

static int has_tiles(void)
{
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("avx512f") || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    if (!(d >> 22 & 1) || !(d >> 24 & 1)) return 0;
    return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
}

/* What the processor has for products: tiles of bfloat16 that the kernel lets this process use
 * (AMX), sums of pairs of 16-bit whole numbers (AVX512-VNNI), vectors of 64 bytes in the copy of
 * trustvlm_few that runs here (AVX-512), or shorter ones. */
int trustvlm_units(void)
{
    if (has_tiles()) return TILES;
    int words = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    if (words && __builtin_cpu_supports("avx512vnni")) return PAIRS;
#ifdef CLONES
    if (words && __builtin_cpu_supports("avx512vl")) return WIDE;
#endif
    return NARROW;
}

/* The place of number k of a query among tiles of 16 queries and 32 numbers, `apart` from each other:
 * pairs of numbers lie together. */
INLINE int64_t place_in_tiles(int64_t query, int64_t k, int64_t steps, int64_t apart)
{
    int64_t tile = query / TILE * steps + k / STEP;
    return tile * apart + k % STEP / 2 * STEP + query % TILE * 2 + k % 2;
}

/* Queries (n, dim) as tiles for AMX: of each 16 queries and each 32 numbers of them the tile of the
 * numbers rounded to bfloat16, and the tile of what that rounding left, rounded too: 16 bits in all.
 * tiles: ⌈n / 16⌉ · ⌈dim / 32⌉ · 1,024 zeros. */
void trustvlm_halves(const float *queries, int64_t n, int64_t dim, uint16_t *tiles)
{
    for (int64_t query = 0; query < n; query++)
        for (int64_t k = 0; k < dim; k++) {
            float value = queries[query * dim + k];
            uint16_t *to = tiles + place_in_tiles(query, k, over(dim, STEP), 2 * TILE_HALF);
            to[0] = rounded(value), to[TILE_HALF] = rounded(value - widened(to[0]));
        }
}

/* Queries (n, dim) as tiles of whole numbers: each is a factor times its query, |factor · query| at
 * most LONGEST. tiles: ⌈n / 16⌉ · ⌈dim / 32⌉ · 512 zeros. worth: ⌈n / 16⌉ · 16 zeros, which become
 * what 1 is worth in a sum of products with rows of `gather`. */
void trustvlm_wholes(const float *queries, int64_t n, int64_t dim, uint16_t *tiles, float *worth)
{
    for (int64_t query = 0; query < n; query++, queries += dim) {
        double square = 0, most = 0;
        for (int64_t k = 0; k < dim; k++) {
            square += (double)queries[k] * queries[k];
            most = fmax(most, fabs(queries[k]));
        }
        double factor = square > 0 ? fmin(INT16_MAX / most, LONGEST / sqrt(square)) : 1;
        worth[query] = 1 / (factor * ONE);
        for (int64_t k = 0; k < dim; k++)
            tiles[place_in_tiles(query, k, over(dim, STEP), TILE_HALF)] =
                (uint16_t)(int16_t)lrint(queries[k] * factor);
    }
}

/* 32 bfloat16 numbers, less than 2 or so, as whole numbers of 1 / ONE. */
PAIRED static __m512i wholes(__m512i halves)
{
    __m512 one = _mm512_set1_ps(ONE);
    __m512i odd = _mm512_and_si512(halves, _mm512_set1_epi32(-65536));
    __m512i even = _mm512_slli_epi32(halves, 16), most = _mm512_set1_epi32(INT16_MAX);
    even = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_castsi512_ps(even), one));
    odd = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_castsi512_ps(odd), one));
    even = _mm512_min_epi32(even, most), odd = _mm512_min_epi32(odd, most);
    return _mm512_mask_blend_epi16(0xAAAAAAAA, even, _mm512_slli_epi32(odd, 16));
}

/* Rows as tiles of 16 rows and 32 numbers, in one piece: they are read in order, once. */
PAIRED static void gather(const uint16_t *rows, int64_t count, int64_t dim, int units,
                          uint16_t *tiles)
{
    int64_t steps = over(dim, STEP);
    for (int64_t row = 0; row < count; row++) {
        const uint16_t *from = rows + row * dim;
        uint16_t *to = tiles + row / TILE * steps * TILE_HALF + row % TILE * STEP;
        for (int64_t k = 0; k < dim; k += STEP, to += TILE_HALF) {
            PREFETCH(from + k);
            __mmask32 some = k + STEP <= dim ? -1 : (1u << (dim - k)) - 1;
            __m512i halves = _mm512_maskz_loadu_epi16(some, from + k);
            _mm512_storeu_si512(to, units == PAIRS ? wholes(halves) : halves);
        }
    }
}

/* Adds products of two tiles of rows with both tiles of queries (6, 7) to the tiles `a` and `b`. */
#define ADD_PRODUCTS(a, b, rows_a, rows_b) \
    _tile_loadd(4, rows_a, 64); _tile_loadd(5, rows_b, 64); \
    _tile_dpbf16ps(a, 4, 6); _tile_dpbf16ps(b, 5, 6); \
    _tile_dpbf16ps(a, 4, 7); _tile_dpbf16ps(b, 5, 7)

/* logits (4 · 16 rows, 16 queries) of four tiles of rows and one tile of queries. */
MATRIX static void multiply_tiles(const uint16_t *rows, const uint16_t *queries, int64_t steps,
                            float *logits)
{
    int64_t apart = steps * TILE_HALF;
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    for (int64_t step = 0; step < steps; step++, rows += TILE_HALF, queries += 2 * TILE_HALF) {
        _tile_loadd(6, queries, 64); _tile_loadd(7, queries + TILE_HALF, 64);
        ADD_PRODUCTS(0, 1, rows, rows + apart);
        ADD_PRODUCTS(2, 3, rows + 2 * apart, rows + 3 * apart);
    }
    _tile_stored(0, logits, 64); _tile_stored(1, logits + TILE * TILE, 64);
    _tile_stored(2, logits + 2 * TILE * TILE, 64); _tile_stored(3, logits + 3 * TILE * TILE, 64);
}

/* The same of tiles of whole numbers: a pair of a row's times the pairs of 16 queries at once. */
PAIRED static void multiply_pairs(const uint16_t *rows, const uint16_t *queries, int64_t steps,
                                  const float *worth, float *logits)
{
    for (int tile = 0; tile < 4; tile++, logits += TILE * TILE) {
        __m512i sums[TILE];
        for (int row = 0; row < TILE; row++) sums[row] = _mm512_setzero_si512();
        const uint16_t *query = queries;
        for (int64_t step = 0; step < steps; step++, rows += TILE_HALF, query += TILE_HALF)
            for (int k = 0; k < STEP; k += 2) {
                __m512i pairs = _mm512_loadu_si512(query + k * TILE);
#pragma GCC unroll 16
                for (int row = 0; row < TILE; row++) {
                    int32_t pair = *(const Pair *)(rows + row * STEP + k);
                    sums[row] = _mm512_dpwssd_epi32(sums[row], pairs, _mm512_set1_epi32(pair));
                }
            }
        __m512 one = _mm512_loadu_ps(worth);
        for (int row = 0; row < TILE; row++)
            _mm512_storeu_ps(logits + row * TILE, _mm512_mul_ps(_mm512_cvtepi32_ps(sums[row]), one));
    }
}

/* Writes a tile of logits (16 rows, 16 queries) to out (n, ·), `stride` apart: the first `rows` of it
 * and as many queries. In steps of pairs, of fours, and of quarters of a vector. */
PAIRED static void transpose(const float *tile, int64_t rows, int64_t n, float *out, int64_t stride)
{
    __m512 a[TILE], b[TILE];
    for (int i = 0; i < TILE; i++) a[i] = _mm512_load_ps(tile + TILE * i);
    for (int i = 0; i < TILE; i += 2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    for (int i = 0; i < TILE; i += 4)
        for (int half = 0; half < 2; half++) {
            __m512d one = _mm512_castps_pd(b[i + half]), two = _mm512_castps_pd(b[i + 2 + half]);
            a[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(one, two));
            a[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(one, two));
        }
    for (int i = 0; i < 4; i++) {
        __m512 even = _mm512_shuffle_f32x4(a[i], a[4 + i], 0x88);
        __m512 odd = _mm512_shuffle_f32x4(a[i], a[4 + i], 0xDD);
        __m512 evens = _mm512_shuffle_f32x4(a[8 + i], a[12 + i], 0x88);
        __m512 odds = _mm512_shuffle_f32x4(a[8 + i], a[12 + i], 0xDD);
        b[i] = _mm512_shuffle_f32x4(even, evens, 0x88);
        b[4 + i] = _mm512_shuffle_f32x4(odd, odds, 0x88);
        b[8 + i] = _mm512_shuffle_f32x4(even, evens, 0xDD);
        b[12 + i] = _mm512_shuffle_f32x4(odd, odds, 0xDD);
    }
    __mmask16 some = rows < TILE ? (1 << rows) - 1 : 0xFFFF;
    for (int i = 0; i < TILE && i < n; i++) _mm512_mask_storeu_ps(out + i * stride, some, b[i]);
}

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes_of_row[16];
    uint8_t rows[16];
} TileConfig;

MATRIX static void begin_tiles(void)
{
    TileConfig config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) config.bytes_of_row[tile] = 64, config.rows[tile] = TILE;
    _tile_loadconfig(&config);
}

MATRIX static void end_tiles(void) { _tile_release(); }

/* As trustvlm_few, of queries as tiles: with PAIRS as units, of whole numbers with the worth of 1 in
 * `worth`; with TILES, of halves. Returns 0, or −1 where there is no memory. */
int trustvlm_many(const uint16_t *rows, int64_t count, int64_t dim, const uint16_t *query_tiles,
                  int64_t n, float *out, int64_t out_stride, int units, const float *worth)
{
    int64_t steps = over(dim, STEP), columns = over(n, TILE);
    int64_t apart = steps * TILE_HALF * (units == TILES ? 2 : 1);
    size_t row_bytes = GROUP * steps * TILE_HALF * sizeof(uint16_t);
    int failed = 0;
#pragma omp parallel
    {
        if (units == TILES) begin_tiles();
        float logits[4 * TILE * TILE] __attribute__((aligned(64)));
        uint16_t *row_tiles = aligned_alloc(64, row_bytes);
        if (row_tiles) memset(row_tiles, 0, row_bytes);
        else failed = -1;
#pragma omp for schedule(static)
        for (int64_t first = 0; first < count; first += GROUP * TILE) {
            if (!row_tiles) continue;
            int64_t held = count - first < GROUP * TILE ? count - first : GROUP * TILE;
            gather(rows + first * dim, held, dim, units, row_tiles);
            for (int64_t column = 0; column < columns; column++)
                for (int64_t row = 0; row < held; row += 4 * TILE) {
                    const uint16_t *some = row_tiles + row * steps * STEP;
                    const uint16_t *queries = query_tiles + column * apart;
                    if (units == TILES) multiply_tiles(some, queries, steps, logits);
                    else multiply_pairs(some, queries, steps, worth + column * TILE, logits);
                    float *to = out + column * TILE * out_stride + first + row;
                    for (int64_t at = 0; at < 4 * TILE && row + at < held; at += TILE)
                        transpose(logits + TILE * at, held - row - at, n - column * TILE, to + at,
                                  out_stride);
                }
        }
        free(row_tiles);
        if (units == TILES) end_tiles();
    }
    return failed;
}
#else
int trustvlm_units(void) { return NARROW; }
#endif

/* ---- what a pass keeps of the logits ---- */

/* Of one query: the sums of the logits l that are no candidates to lead, relative to the largest
 * logit: Σ2^(l − top), Σ2^(l − top)·(l − top), Σ4^(l − top). */
typedef double Sums[3];

/* Adds logits to the sums, which are relative to `before` and become relative to `top`. */
INLINE void sum_up(double *sums, float before, float top, const float *logits, int64_t count)
{
    if (before != -INFINITY && before != top) {
        double shift = (double)before - top, shrink = exp2(shift);
        sums[1] = shrink * (sums[1] + shift * sums[0]);
        sums[0] *= shrink;
        sums[2] *= shrink * shrink;
    }
    Floats total = ALL(0), weighted = ALL(0), squared = ALL(0);
    for (int64_t at = 0; at < count; at += LANES) {
        Floats x = ALL(-INFINITY);
        if (at + LANES <= count) x = *(const Floats *)(logits + at);
        else for (int64_t i = at; i < count; i++) x[i - at] = logits[i];
        x = larger(x - top, ALL(FLOOR));
        Floats power = power_of_two(x);
        total += power;
        weighted += power * x;
        power = larger(power, ALL(LEAST));
        squared += power * power;
    }
    sums[0] += summed(total);
    sums[1] += summed(weighted);
    sums[2] += summed(squared);
}

/* Takes in the logits (n, width) of the rows `first` …, one query `stride` numbers behind the other,
 * and overwrites them.
 *
 * alive: whether each of the rows takes part, or NULL. candidates, positions: (n, 2k) logits larger
 * than the floor, and whose they are; counts: (n) how many. floors: (n) the k-th largest when there
 * were 2k of them. top: (n) the largest. sums: (n), NULL where nobody asks.
 */
PORTABLE void trustvlm_add(float *logits, int64_t n, int64_t width, int64_t stride, int64_t first,
                           const uint8_t *alive, int64_t k, float *candidates, int64_t *positions,
                           int64_t *counts, float *floors, float *top, Sums *sums)
{
#pragma omp parallel for schedule(static) if (n > 1)
    for (int64_t query = 0; query < n; query++) {
        float *l = logits + query * stride, *leading = candidates + query * 2 * k;
        int64_t *places = positions + query * 2 * k, count = counts[query];
        float floor = floors[query], best = top[query], base = best;
        if (alive)
            for (int64_t i = 0; i < width; i++) l[i] = alive[i] ? l[i] : -INFINITY;
        for (int64_t at = 0; at < width; at += CHUNK) {
            int64_t stop = at + CHUNK < width ? at + CHUNK : width, i = at;
            Floats most = ALL(-INFINITY);
            for (; i + LANES <= stop; i += LANES) most = larger(most, *(Floats *)(l + i));
            if (!any(most > floor) && i == stop) continue;
            for (int64_t begin = at, end; begin < stop; begin = end) {
                end = begin + LANES < stop ? begin + LANES : stop;
                if (end - begin == LANES && !any(*(Floats *)(l + begin) > floor)) continue;
                for (i = begin; i < end; i++) {
                    if (!(l[i] > floor)) continue;
                    if (l[i] > best) best = l[i];
                    leading[count] = l[i], places[count++] = first + i;
                    l[i] = -INFINITY;
                    if (count < 2 * k) continue;
                    floor = select_largest(leading, places, count, k);
                    count = k;
                    if (!sums) continue;
                    sum_up(sums[query], base, best, leading + k, k);
                    base = best;
                }
            }
        }
        counts[query] = count, floors[query] = floor, top[query] = best;
        if (!sums || best == -INFINITY) continue;
        sum_up(sums[query], base, best, l, width);
    }
}

/* Leaves the k largest candidates of each query, and adds the others to its sums. */
PORTABLE void trustvlm_select(int64_t n, int64_t k, float *candidates, int64_t *positions,
                              const int64_t *counts, const float *top, Sums *sums)
{
    for (int64_t query = 0; query < n; query++) {
        if (counts[query] <= k) continue;
        float *leading = candidates + query * 2 * k;
        select_largest(leading, positions + query * 2 * k, counts[query], k);
        if (sums) sum_up(sums[query], top[query], top[query], leading + k, counts[query] - k);
    }
}
