/* Products of rows by weights that are laid out in panels: y = x W^T + b. Rows and results are fp32; what is multiplied is
   fp32, bf16 (-DBF16) or integers of 8 bits (-DINT8). Sums are fp32, those of integers exact, of up to 132,104 inputs.

   Each sum is a chain of multiplications and additions along the inputs, in their order (of many inputs a few chains, added
   up), so it doesn't depend on which other rows and outputs there are. Few rows are as fast as weights can be read, many as
   the processor can multiply: a panel is read from memory once, for the first rows, and from the cache for the others.

   A word, 32 bits, is PACK inputs. A row is [1 + words]: its scale, and its inputs. A panel is COLUMNS outputs side by side,
   [2 + words, COLUMNS]: what their sums begin with, their scales, and their inputs; zeros where there are no more outputs.
   A result is sum * scale * scale of its row + bias. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(BF16) || defined(INT8)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { LANES = 16, VECTORS = 4, SHORT = 512 }; /* 32 registers: 6 x 4 sums, 4 of weights, 1 of inputs */
#elif defined(__AVX2__) && defined(__FMA__)
enum { LANES = 8, VECTORS = 2, SHORT = 1024 }; /* 16 registers: 6 x 2 sums, 2 of weights, 1 of inputs */
#else
#error "neither AVX-512 nor AVX2 with FMA"
#endif

enum {
    COLUMNS = LANES * VECTORS,
    HEAD = 2,
    ROW_HEAD = 1,
    MOST = 6,  /* rows whose sums fit into the registers */
    LINE = 64, /* bytes of a cache line */
    /* Bytes ahead of those being multiplied that are asked for, or multiplying would wait for memory: from beyond the
       second cache into it, for few of the first cache's can be under way at a time, and from there into the first. */
    FAR = 32 * 1024,
    NEAR = 4 * 1024
};

typedef int32_t Words __attribute__((vector_size(4 * LANES)));
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef float Anywhere __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static inline int32_t bits_of(float number)
{
    int32_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

static inline float float_of(int32_t bits)
{
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

/* --- what is multiplied */

#if defined(INT8)

typedef uint8_t Input;
typedef int8_t Weight;
typedef Words Sums;

/* number = integer * scale / 127, where the scale is the greatest magnitude, above 0. NaN's bits are the greatest. */
static float scale_of(const float *numbers, size_t count)
{
    int32_t greatest = bits_of(1e-30f);
    for (size_t i = 0; i < count; i++) {
        const int32_t bits = bits_of(numbers[i]) & 0x7fffffff;
        greatest = bits > greatest ? bits : greatest;
    }
    return float_of(greatest);
}

/* To the nearest integer, between two to the even one: in the sum the last digit is 1. */
static inline int32_t rounded(float number) { return bits_of(number + 12582912.0f) - bits_of(12582912.0f); }

/* The instruction takes inputs without a sign, so 128 stands for 0, and sums begin at -128 times their weights. */
static inline Input input_of(float number, float scale) { return (Input)(rounded(number * (127 / scale)) + 128); }
static inline Weight weight_of(float number, float scale) { return (Weight)rounded(number / scale * 127); }
static inline int32_t start_of(Weight weight) { return -128 * weight; }
static inline float output_scale(float scale) { return scale / (127 * 127); }
static inline Floats floats_of(Sums sums) { return __builtin_convertvector(sums, Floats); }

static inline Sums dot(Sums sums, Words inputs, Words weights)
{
    return (Sums)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)inputs, (__m512i)weights);
}

#else

static inline float scale_of(const float *numbers, size_t count) { return (void)numbers, (void)count, 1; }
static inline float output_scale(float scale) { return scale; }

typedef Floats Sums;
static inline Floats floats_of(Sums sums) { return sums; }

#if defined(BF16)

typedef uint16_t Input, Weight;

/* To the nearest, between two to the one whose last bit is 0; NaN stays NaN. */
static inline Weight weight_of(float number, float scale)
{
    (void)scale;
    const uint32_t bits = (uint32_t)bits_of(number);
    return number != number ? 0x7fc0 : (Weight)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline Sums dot(Sums sums, Words inputs, Words weights)
{
    return (Sums)_mm512_dpbf16_ps((__m512)sums, (__m512bh)inputs, (__m512bh)weights);
}

#else

typedef float Input, Weight;
static inline Weight weight_of(float number, float scale) { return (void)scale, number; }
static inline Sums dot(Sums sums, Words inputs, Words weights) { return sums + (Floats)inputs * (Floats)weights; }

#endif

static inline Input input_of(float number, float scale) { return weight_of(number, scale); }
static inline int32_t start_of(Weight weight) { return (void)weight, 0; }

#endif

enum { PACK = sizeof(int32_t) / sizeof(Weight) };

static size_t words_of(size_t inputs) { return (inputs + PACK - 1) / PACK; }

/* Words of a chain: one over thousands would lose digits. In fp32 they are those that oneDNN
   (3.x) was seen to take, so that results are mostly the same bits whether this was built or not. */
static size_t chain_of(size_t words) { return words <= 1024 ? SHORT : 1024; }

/* --- laying out */

size_t panel_columns(void) { return COLUMNS; }
size_t panel_words(size_t inputs) { return (HEAD + words_of(inputs)) * COLUMNS; }
size_t row_words(size_t inputs) { return ROW_HEAD + words_of(inputs); }

/* weight [O, I] -> panels [ceil(O / COLUMNS), HEAD + words, COLUMNS], which are zeros before */
void lay_out_weight(const float *weight, size_t outputs, size_t inputs, int32_t *panels)
{
    for (size_t output = 0; output < outputs; output++) {
        const float *numbers = weight + output * inputs, scale = scale_of(numbers, inputs);
        int32_t *panel = panels + output / COLUMNS * panel_words(inputs), *column = panel + output % COLUMNS;
        for (size_t input = 0; input < inputs; input++) {
            const Weight laid = weight_of(numbers[input], scale);
            memcpy((Weight *)(column + (HEAD + input / PACK) * COLUMNS) + input % PACK, &laid, sizeof laid);
            column[0] += start_of(laid);
        }
        column[COLUMNS] = bits_of(output_scale(scale));
    }
}

/* rows [R, I] -> [R, ROW_HEAD + words] */
void lay_out_rows(const float *rows, size_t count, size_t inputs, int32_t *laid)
{
    for (size_t row = 0; row < count; row++, rows += inputs, laid += row_words(inputs)) {
        const float scale = scale_of(rows, inputs);
        laid[0] = bits_of(scale);
        laid[row_words(inputs) - 1] = 0; /* where the last word isn't full */
        Input *to = (Input *)(laid + ROW_HEAD);
        for (size_t input = 0; input < inputs; input++)
            to[input] = input_of(rows[input], scale);
    }
}

/* --- multiplying */

/* `count` rows by one panel; `count` is known where this is put in, so that a chain's sums stay in registers. */
static inline __attribute__((always_inline)) void multiply_panel(
    const size_t count, const int32_t *rows, size_t words, const Words *panel, Sums sums[MOST][VECTORS])
{
    const size_t chain = chain_of(words);
    for (size_t row = 0; row < count; row++)
        for (size_t v = 0; v < VECTORS; v++)
            sums[row][v] = (Sums)panel[v];
    panel += HEAD * VECTORS;
    for (size_t first = 0; first < words; first += chain) {
        const size_t last = first + chain < words ? first + chain : words;
        Sums found[MOST][VECTORS];
        for (size_t row = 0; row < count; row++)
            for (size_t v = 0; v < VECTORS; v++)
                found[row][v] = (Sums){0};
        for (size_t word = first; word < last; word++, panel += VECTORS) {
            for (size_t line = 0; line < sizeof(Words) * VECTORS; line += LINE) {
                __builtin_prefetch((const char *)panel + FAR + line, 0, 2);
                __builtin_prefetch((const char *)panel + NEAR + line, 0, 3);
            }
            for (size_t row = 0; row < count; row++) {
                const Words inputs = rows[row * (ROW_HEAD + words) + ROW_HEAD + word] - (Words){0};
                for (size_t v = 0; v < VECTORS; v++)
                    found[row][v] = dot(found[row][v], inputs, panel[v]);
            }
        }
        for (size_t row = 0; row < count; row++)
            for (size_t v = 0; v < VECTORS; v++)
                sums[row][v] += found[row][v];
    }
}

static void multiply_rows(
    size_t count, const int32_t *rows, size_t words, const Words *panel, Sums sums[MOST][VECTORS])
{
    switch (count) {
    case 1: multiply_panel(1, rows, words, panel, sums); break;
    case 2: multiply_panel(2, rows, words, panel, sums); break;
    case 3: multiply_panel(3, rows, words, panel, sums); break;
    case 4: multiply_panel(4, rows, words, panel, sums); break;
    case 5: multiply_panel(5, rows, words, panel, sums); break;
    case 6: multiply_panel(6, rows, words, panel, sums); break;
    }
}

/* `width` results of a row of a scale. */
static void put(
    const Sums sums[VECTORS], const Floats scales[VECTORS], float scale, const float *bias, size_t width, float *results)
{
    for (size_t v = 0; v < VECTORS && v * LANES < width; v++) {
        Floats found = floats_of(sums[v]) * scales[v] * scale;
        const size_t begin = v * LANES, left = width - begin;
        if (left >= LANES) {
            if (bias)
                found += *(const Anywhere *)(bias + begin);
            *(Anywhere *)(results + begin) = found;
        } else {
            for (size_t lane = 0; lane < left; lane++)
                results[begin + lane] = bias ? found[lane] + bias[begin + lane] : found[lane];
        }
    }
}

/* Laid out rows and panels -> results [R, O], of the outputs from `first`, a multiple of COLUMNS, to `last`; bias [O] or
   NULL. */
void multiply(const int32_t *rows, size_t count, size_t inputs, const int32_t *panels, const float *bias, size_t outputs,
    size_t first, size_t last, float *results)
{
    for (; first < last; first += COLUMNS) {
        const Words *panel = (const Words *)(panels + first / COLUMNS * panel_words(inputs));
        const size_t width = last - first < COLUMNS ? last - first : COLUMNS;
        for (size_t row = 0, together; row < count; row += together) {
            const size_t left = count - row;
            together = left <= MOST ? left : left >= 2 * MOST ? MOST : (left + 1) / 2;
            const int32_t *of = rows + row * row_words(inputs);
            Sums sums[MOST][VECTORS];
            multiply_rows(together, of, words_of(inputs), panel, sums);
            for (size_t i = 0; i < together; i++)
                put(sums[i], (const Floats *)(panel + VECTORS), float_of(of[i * row_words(inputs)]),
                    bias ? bias + first : NULL, width, results + (row + i) * outputs + first);
        }
    }
}
