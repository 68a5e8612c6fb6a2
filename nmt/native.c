/* Products of rows by weights that are laid out in panels: y = x W^T + b, in fp32.

   Each result is a chain of fused multiply-adds along the inputs, in their order (of many inputs a few chains, added up),
   so it doesn't depend on which other rows and outputs there are. Few rows are as fast as weights can be read, many as
   the processor can multiply: a panel is read from memory once, for the first rows, and from the cache for the others.

   A panel is COLUMNS outputs side by side: [I, COLUMNS], zeros where there are no more outputs. */

#include <stddef.h>

#if defined(__AVX512F__)
enum { LANES = 16, VECTORS = 4, SHORT = 512 }; /* 32 registers: 6 x 4 sums, 4 weights, 1 input */
#elif defined(__AVX2__) && defined(__FMA__)
enum { LANES = 8, VECTORS = 2, SHORT = 1024 }; /* 16 registers: 6 x 2 sums, 2 weights, 1 input */
#else
#error "neither AVX-512 nor AVX2 with FMA"
#endif

enum {
    COLUMNS = LANES * VECTORS,
    MOST = 6, /* rows whose sums fit into the registers */
    LINE = 64, /* bytes of a cache line */
    /* Bytes ahead of those being multiplied that are asked for, or multiplying would wait for memory: from beyond the
       second cache into it, for few of the first cache's can be under way at a time, and from there into the first. */
    FAR = 32 * 1024,
    NEAR = 4 * 1024
};

/* Inputs of a chain: one over thousands would lose digits. They are oneDNN's (3.x), so that its results are the same bits
   in all that was tried, and translations don't depend on whether this was built. */
static size_t chain_of(size_t inputs) { return inputs <= 1024 ? SHORT : 1024; }

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef float Anywhere __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* `count` rows by one panel; `count` is known where this is put in, so that a chain's sums stay in registers. */
static inline __attribute__((always_inline)) void multiply_panel(
    const size_t count, const float *rows, size_t inputs, const Vector *panel, Vector sums[MOST][VECTORS])
{
    const size_t chain = chain_of(inputs);
    for (size_t first = 0; first < inputs || !first; first += chain) {
        Vector found[MOST][VECTORS];
        for (size_t row = 0; row < count; row++)
            for (size_t v = 0; v < VECTORS; v++)
                found[row][v] = (Vector){0};
        const size_t last = first + chain < inputs ? first + chain : inputs;
        for (size_t input = first; input < last; input++, panel += VECTORS) {
            for (size_t line = 0; line < sizeof(Vector) * VECTORS; line += LINE) {
                __builtin_prefetch((const char *)panel + FAR + line, 0, 2);
                __builtin_prefetch((const char *)panel + NEAR + line, 0, 3);
            }
            for (size_t row = 0; row < count; row++) {
                const Vector x = rows[row * inputs + input] - (Vector){0};
                for (size_t v = 0; v < VECTORS; v++)
                    found[row][v] += x * panel[v];
            }
        }
        for (size_t row = 0; row < count; row++)
            for (size_t v = 0; v < VECTORS; v++)
                sums[row][v] = first ? sums[row][v] + found[row][v] : found[row][v];
    }
}

static void multiply_rows(
    size_t count, const float *rows, size_t inputs, const Vector *panel, Vector sums[MOST][VECTORS])
{
    switch (count) {
    case 1: multiply_panel(1, rows, inputs, panel, sums); break;
    case 2: multiply_panel(2, rows, inputs, panel, sums); break;
    case 3: multiply_panel(3, rows, inputs, panel, sums); break;
    case 4: multiply_panel(4, rows, inputs, panel, sums); break;
    case 5: multiply_panel(5, rows, inputs, panel, sums); break;
    case 6: multiply_panel(6, rows, inputs, panel, sums); break;
    }
}

/* `width` results of a row, and the bias where there is one. */
static void put(const Vector sums[VECTORS], const float *bias, size_t width, float *results)
{
    if (width == COLUMNS) {
        for (size_t v = 0; v < VECTORS; v++) {
            Vector found = sums[v];
            if (bias)
                found += *(const Anywhere *)(bias + v * LANES);
            *(Anywhere *)(results + v * LANES) = found;
        }
    } else {
        for (size_t column = 0; column < width; column++)
            results[column] = sums[column / LANES][column % LANES] + (bias ? bias[column] : 0);
    }
}

size_t columns(void) { return COLUMNS; }

/* weight [O, I] -> panels [ceil(O / COLUMNS), I, COLUMNS] */
void lay_out(const float *weight, size_t outputs, size_t inputs, float *panels)
{
    for (size_t first = 0; first < outputs; first += COLUMNS, panels += inputs * COLUMNS)
        for (size_t column = 0; column < COLUMNS; column++) {
            const size_t output = first + column;
            for (size_t input = 0; input < inputs; input++)
                panels[input * COLUMNS + column] = output < outputs ? weight[output * inputs + input] : 0;
        }
}

/* rows [R, I] -> results [R, O], of the outputs from `first`, a multiple of COLUMNS, to `last`; bias [O] or NULL */
void multiply(const float *rows, size_t count, size_t inputs, const float *panels, const float *bias, size_t outputs,
    size_t first, size_t last, float *results)
{
    for (; first < last; first += COLUMNS) {
        const Vector *panel = (const Vector *)(panels + first * inputs);
        size_t width = last - first < COLUMNS ? last - first : COLUMNS;
        for (size_t row = 0, together; row < count; row += together) {
            size_t left = count - row;
            together = left <= MOST ? left : left >= 2 * MOST ? MOST : (left + 1) / 2;
            Vector sums[MOST][VECTORS];
            multiply_rows(together, rows + row * inputs, inputs, panel, sums);
            for (size_t of = 0; of < together; of++)
                put(sums[of], bias ? bias + first : NULL, width, results + (row + of) * outputs + first);
        }
    }
}
