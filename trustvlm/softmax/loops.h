/* What the compiled loops share: vectors of 16 numbers that compilers map to what a processor has,
 * powers, and the choice of the largest numbers. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16
#define CHUNK 128       /* numbers that are compared with a floor at once */
#define LOWEST -700.0   /* e^LOWEST is a normal double */
#define FLOOR -115.0f   /* 2^FLOOR is a normal float: powers below it would be denormal, and slow */

#ifdef CLONES /* one copy of a function for each of these processors, chosen when it is loaded */
#define PORTABLE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define PORTABLE
#endif

typedef float Floats __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(64), aligned(2), may_alias));
typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));
typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t EightInts __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t FourInts __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint64_t Bits __attribute__((vector_size(64), aligned(4), may_alias));
typedef double Doubles __attribute__((vector_size(64), aligned(8), may_alias));
typedef int64_t Longs __attribute__((vector_size(64), aligned(8), may_alias));
typedef union { uint32_t bits; float value; } Word;

#define INLINE static inline __attribute__((always_inline))
#define ALL(x) ((Floats){0} + (x))

INLINE Ints either(Ints mask, Ints yes, Ints no) { return (mask & yes) | (~mask & no); }

INLINE Floats larger(Floats a, Floats b) { return (Floats)either(a > b, (Ints)a, (Ints)b); }

INLINE int any(Ints mask)
{
    Bits bits = (Bits)mask;
    return (bits[0] | bits[1] | bits[2] | bits[3] | bits[4] | bits[5] | bits[6] | bits[7]) != 0;
}

INLINE float summed(Floats values)
{
    Eight eight = ((const Eight *)&values)[0] + ((const Eight *)&values)[1];
    Four four = ((const Four *)&eight)[0] + ((const Four *)&eight)[1];
    return (four[0] + four[1]) + (four[2] + four[3]);
}

/* 2^x for FLOOR ≤ x ≤ 0, to two units in the last place: 2^whole · 2^part, |part| ≤ 1/2. */
INLINE Floats power_of_two(Floats x)
{
    Floats shifted = x + 12582912.0f; /* 1.5 · 2^23: the sum's last bits are the nearest whole */
    Ints whole = (Ints)shifted - 0x4B400000;
    Floats part = x - (shifted - 12582912.0f);
    Floats power = 1.535336188319500e-4f * part + 1.339887440266574e-3f;
    power = (power * part + 9.618437357674640e-3f) * part + 5.550332471162809e-2f;
    power = (power * part + 2.402264791363012e-1f) * part + 6.931472028550421e-1f;
    power = power * part + 1.0f;
    return (Floats)((Ints)power + (whole << 23));
}

/* e^x for LOWEST ≤ x ≤ 0 in double precision: 2^whole · e^rest, |rest| ≤ log(2) / 2. */
INLINE Doubles exponential(Doubles x)
{
    Doubles shifted = x * 0x1.71547652b82fep0 + 0x1.8p52;
    Doubles whole = shifted - 0x1.8p52;
    Doubles rest = (x - whole * 0x1.62e42fefa38p-1) - whole * 0x1.ef35793c7673p-45;
    Doubles power = rest / 13 + 1; /* 1 + rest · (1 + rest / 2 · (1 + rest / 3 · …)) */
    for (int i = 12; i > 0; i--) power = power * rest * (1.0 / i) + 1;
    return (Doubles)((Longs)power + ((Longs)shifted << 52));
}

/* Puts the k largest of `count` > k logits first, with their positions; returns the k-th. */
static float select_largest(float *logits, int64_t *positions, int64_t count, int64_t k)
{
    for (int64_t low = 0, high = count - 1; low < high;) {
        float pivot = logits[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (logits[i] > pivot) i++;
            while (logits[j] < pivot) j--;
            if (i > j) break;
            float logit = logits[i];
            int64_t position = positions[i];
            logits[i] = logits[j], positions[i++] = positions[j];
            logits[j] = logit, positions[j--] = position;
        }
        if (k - 1 <= j) high = j;
        else if (k - 1 >= i) low = i;
        else break;
    }
    float least = logits[0];
    for (int64_t i = 1; i < k; i++) least = logits[i] < least ? logits[i] : least;
    return least;
}
