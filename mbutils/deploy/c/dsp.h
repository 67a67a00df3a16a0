/* Inner loops for the DSP extension of Arm (Cortex-M4, M7, M33). kernels.h includes this file there.
 *
 * An instruction multiplies two pairs of 16 bits and adds the products up, so values and weights become halfwords first:
 * those of a patch once for all output channels, the weights once for all pixels that are worked on together.
 *
 * The innermost loops are in assembly: they take all registers, and compilers would move values to and fro. */
#ifndef NN_DSP_H
#define NN_DSP_H

#include "layer.h"

static inline uint32_t nn_load4(const int8_t *from)
{
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

/* Bytes 0 and 2 of a word, and bytes 1 and 3, as two signed halfwords each. */
static inline uint32_t nn_even(uint32_t word) { return __sxtb16(word); }

static inline uint32_t nn_odd(uint32_t word)
{
    uint32_t halfwords; /* one instruction, which arm_acle.h has no name for */
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(halfwords) : "r"(word));
    return halfwords;
}

/* The lower halves of two words, that of the first one below, and their upper halves. */
static inline uint32_t nn_lower_halves(uint32_t a, uint32_t b)
{
    uint32_t halves;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(halves) : "r"(a), "r"(b));
    return halves;
}

static inline uint32_t nn_upper_halves(uint32_t a, uint32_t b)
{
    uint32_t halves;
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(halves) : "r"(b), "r"(a));
    return halves;
}

/* ---- Convolution ----------------------------------------------------------------------------------------------- */

/* Writes `count` values, a multiple of 4, to one of the lanes, nn_times as large: [count / 4][even and odd ones][lane].
 * Returns what the second of two channels with packed weights starts with: -8 times their sum. */
NN_SPECIALIZED int32_t nn_widen(const int8_t *from, int count, uint32_t *lane, nn_kind kind, const int bits)
{
    int32_t offset = 0;
    for (const int8_t *const end = from + count; from != end; from += 4, lane += 2 * NN_LANES) {
        const uint32_t word = nn_load4(from);
        uint32_t even = nn_even(word), odd = nn_odd(word);
        if (nn_times(kind) == 2) even = __sadd16(even, even);
        if (nn_times(kind) == 2) odd = __sadd16(odd, odd);
        if (bits == 4) offset = __smlad(odd, 0xFFF8FFF8u, __smlad(even, 0xFFF8FFF8u, offset));
        lane[0] = even;
        lane[NN_LANES] = odd;
    }
    return offset;
}

/* Four lanes times the weights of two channels: two values of each. `load` leaves the weights in a and b, as halfwords. */
#define NN_CONVOLVE_2X4(load)               \
    load                                    \
    "ldrd %[x0], %[x1], [%[lanes]], #8\n\t" \
    "smlad %[a0], %[x0], %[a], %[a0]\n\t"   \
    "smlad %[b0], %[x0], %[b], %[b0]\n\t"   \
    "smlad %[a1], %[x1], %[a], %[a1]\n\t"   \
    "smlad %[b1], %[x1], %[b], %[b1]\n\t"   \
    "ldrd %[x0], %[x1], [%[lanes]], #8\n\t" \
    "smlad %[a2], %[x0], %[a], %[a2]\n\t"   \
    "smlad %[b2], %[x0], %[b], %[b2]\n\t"   \
    "smlad %[a3], %[x1], %[a], %[a3]\n\t"   \
    "smlad %[b3], %[x1], %[b], %[b3]\n\t"
/* Four weights of both channels; `step` goes on to the next ones, `rotate` takes the odd ones. */
#define NN_LOAD_INT8(step, rotate)                \
    "ldrd %[a], %[b], [%[weights]]" step "\n\t"   \
    "sxtb16 %[a], %[a]" rotate "\n\t"             \
    "sxtb16 %[b], %[b]" rotate "\n\t"
#define NN_LOAD_INT4(step, rotate)        \
    "ldr %[a], [%[weights]]" step "\n\t"  \
    "sxtb16 %[a], %[a]" rotate "\n\t"     \
    "and %[b], %[a], #0x000F000F\n\t"
#define NN_CONVOLVE_8X4(load, step) NN_CONVOLVE_2X4(load("", "")) NN_CONVOLVE_2X4(load(step, ", ror #8"))
#define NN_CONVOLVE(load, step)                                                                                         \
    __asm__ volatile("1:\n\t" NN_CONVOLVE_8X4(load, step) NN_CONVOLVE_8X4(load, step)                                   \
                     "ldr %[x0], %[end]\n\t"                                                                            \
                     "cmp %[x0], %[weights]\n\t"                                                                        \
                     "bne 1b"                                                                                           \
                     : [a0] "+r"(sa[0]), [a1] "+r"(sa[1]), [a2] "+r"(sa[2]), [a3] "+r"(sa[3]), [b0] "+r"(sb[0]),        \
                       [b1] "+r"(sb[1]), [b2] "+r"(sb[2]), [b3] "+r"(sb[3]), [lanes] "+r"(lanes),                       \
                       [weights] "+r"(weights), [a] "=&r"(a), [b] "=&r"(b), [x0] "=&r"(x0), [x1] "=&r"(x1)              \
                     : [end] "m"(end)                                                                                   \
                     : "cc", "memory")

/* Adds the products of four lanes and the weights of two channels, up to `end`. Returns that. */
NN_SPECIALIZED const int8_t *nn_convolve_2x4(
    const uint32_t *lanes, const int8_t *weights, const int8_t *end, int32_t sums[2][NN_LANES], const int bits)
{
    int32_t a, b, x0, x1, *const sa = sums[0], *const sb = sums[1];
    if (bits == 4) NN_CONVOLVE(NN_LOAD_INT4, ", #4");
    else NN_CONVOLVE(NN_LOAD_INT8, ", #8");
    return weights;
}

/* a + b modulo 2^32: a sum with packed weights may start with more than an int32 holds, but does not end with it. */
static inline int32_t nn_wrapping_sum(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }

/* Sums with packed weights, before and after the products are added; the second channel has the bias b, the first one a. */
static inline void nn_start_packed(int32_t b, const int32_t *offsets, int32_t sums[2][NN_LANES])
{
    sums[0][0] = sums[1][0] = nn_wrapping_sum(b, offsets[0]);
    sums[0][1] = sums[1][1] = nn_wrapping_sum(b, offsets[1]);
    sums[0][2] = sums[1][2] = nn_wrapping_sum(b, offsets[2]);
    sums[0][3] = sums[1][3] = nn_wrapping_sum(b, offsets[3]);
}

static inline void nn_end_packed(int32_t a, int32_t sums[2][NN_LANES])
{
    sums[0][0] = a + nn_first_of_packed(sums[0][0], sums[1][0]);
    sums[0][1] = a + nn_first_of_packed(sums[0][1], sums[1][1]);
    sums[0][2] = a + nn_first_of_packed(sums[0][2], sums[1][2]);
    sums[0][3] = a + nn_first_of_packed(sums[0][3], sums[1][3]);
}

/* Writes the outputs of one channel at four pixels. */
NN_SPECIALIZED void nn_write_lanes(nn_scale scale, const int32_t *sums, int channels, int8_t *out, nn_kind kind)
{
    out[0] = nn_requantize(scale, sums[0], kind);
    out[channels] = nn_requantize(scale, sums[1], kind);
    out[2 * channels] = nn_requantize(scale, sums[2], kind);
    out[3 * channels] = nn_requantize(scale, sums[3], kind);
}

/* Convolves four pixels; `offsets` are what nn_widen returned for them. */
NN_SPECIALIZED void nn_convolve_lanes(
    const nn_layer *layer, const uint32_t *lanes, const int32_t *offsets, int8_t *out, nn_kind kind, const int bits)
{
    const int8_t *weights = layer->weights;
    const int channels = layer->out_channels, bytes = layer->weights_each * bits / 4;
    for (int c = 0; c < channels; c += 2) {
        const int32_t a = layer->bias[c] * nn_times(kind), b = layer->bias[c + 1] * nn_times(kind);
        int32_t sums[2][NN_LANES] = {{a, a, a, a}, {b, b, b, b}};
        if (bits == 4) nn_start_packed(b, offsets, sums);
        weights = nn_convolve_2x4(lanes, weights, weights + bytes, sums, bits);
        if (bits == 4) nn_end_packed(a, sums);
        nn_write_lanes(nn_scale_of(layer, c, kind), sums[0], channels, out + c, kind);
        if (c + 1 == channels) break;
        nn_write_lanes(nn_scale_of(layer, c + 1, kind), sums[1], channels, out + c + 1, kind);
    }
}

/* Convolves one pixel, the first of the lanes. */
NN_SPECIALIZED void nn_convolve_lane(
    const nn_layer *layer, const uint32_t *lanes, int32_t offset, int8_t *out, nn_kind kind, const int bits)
{
    const int8_t *weights = layer->weights;
    const int channels = layer->out_channels, bytes = layer->weights_each * bits / 4;
    for (int c = 0; c < channels; c += 2) {
        const int32_t bias_a = layer->bias[c] * nn_times(kind);
        int32_t b = layer->bias[c + 1] * nn_times(kind), a = bias_a;
        const uint32_t *lane = lanes;
        if (bits == 4) a = b = nn_wrapping_sum(b, offset);
        for (const int8_t *const end = weights + bytes; weights != end; weights += bits, lane += 2 * NN_LANES) {
            const uint32_t even = lane[0], odd = lane[NN_LANES], word = nn_load4(weights);
            const uint32_t even_a = nn_even(word), odd_a = nn_odd(word);
            uint32_t even_b = even_a & 0x000F000Fu, odd_b = odd_a & 0x000F000Fu;
            if (bits == 8) even_b = nn_even(nn_load4(weights + 4)), odd_b = nn_odd(nn_load4(weights + 4));
            a = __smlad(odd, odd_a, __smlad(even, even_a, a));
            b = __smlad(odd, odd_b, __smlad(even, even_b, b));
        }
        if (bits == 4) a = bias_a + nn_first_of_packed(a, b);
        out[c] = nn_requantize(nn_scale_of(layer, c, kind), a, kind);
        if (c + 1 < channels) out[c + 1] = nn_requantize(nn_scale_of(layer, c + 1, kind), b, kind);
    }
}

/* Copies the values below a kernel that lies inside of the map, in the order of its weights: whole words, what is copied
 * beyond a row is overwritten by the next one, or meets weights of zero. */
static inline void nn_copy_inside(const nn_layer *layer, const int8_t *const *rows, int left, int8_t *patch)
{
    const int channels = layer->in_channels, width = layer->kernel_width * channels;
    for (const int8_t *const *const end = rows + layer->kernel_height; rows < end; rows++, patch += width) {
        const int8_t *from = *rows + left * channels;
        for (int8_t *to = patch; to < patch + width; to += 4, from += 4) memcpy(to, from, 4);
    }
}

/* Computes row y of a convolution of any kernel. */
NN_SPECIALIZED void nn_convolve_halfwords(
    const nn_layer *layer, const nn_rows *in, int y, int8_t *out, int8_t *scratch, nn_kind kind, const int bits)
{
    const int width = layer->out_width, channels = layer->out_channels, each = layer->weights_each;
    const int top = y * layer->stride_height - layer->pad_top, is_point = layer->patch == layer->in_channels;
    uint32_t *const lanes = (uint32_t *)__builtin_assume_aligned(scratch, 4);
    int8_t *const patch = scratch + 2 * NN_LANES * each;
    const int8_t *rows[NN_MAX_ROWS];
    int32_t offsets[NN_LANES];
    for (int ky = 0; ky < layer->kernel_height; ky++) rows[ky] = nn_row(in, top + ky < 0 ? 0 : top + ky);
    for (int x = 0, pixels; x < width; x += pixels, out += pixels * channels) {
        pixels = width - x < NN_LANES ? 1 : NN_LANES;
        for (int lane = 0; lane < pixels; lane++) {
            const int left = (x + lane) * layer->stride_width - layer->pad_left;
            if (!is_point && nn_is_inside(layer, top, left)) nn_copy_inside(layer, rows, left, patch);
            else if (!is_point) nn_copy_padded(layer, in, top, left, patch);
            const int8_t *const from = is_point ? rows[0] + left * layer->in_channels : patch;
            offsets[lane] = nn_widen(from, each, lanes + lane, kind, bits);
        }
        if (pixels == 1) nn_convolve_lane(layer, lanes, offsets[0], out, kind, bits);
        else nn_convolve_lanes(layer, lanes, offsets, out, kind, bits);
    }
}

/* ---- Depthwise convolution of 3 x 3 ---------------------------------------------------------------------------- */

/* Sums a depthwise kernel of 3 x 3 over four channels, from where the three rows below it start. */
static inline void nn_sum_3x3(
    const int8_t *const *rows, int c, const int8_t *weights, int channels, const int32_t *bias, int32_t sums[4])
{
    int32_t s0 = bias[0], s1 = bias[1], s2 = bias[2], s3 = bias[3];
#pragma GCC unroll 1
    for (int ky = 0; ky < 3; ky++) {
        const int8_t *from = rows[ky] + c;
#pragma GCC unroll 3
        for (int kx = 0; kx < 3; kx++, from += channels, weights += channels) {
            const uint32_t x = nn_load4(from), w = nn_load4(weights);
            const uint32_t x_even = nn_even(x), x_odd = nn_odd(x), w_even = nn_even(w), w_odd = nn_odd(w);
            s0 = __smlabb(x_even, w_even, s0);
            s1 = __smlabb(x_odd, w_odd, s1);
            s2 = __smlatt(x_even, w_even, s2);
            s3 = __smlatt(x_odd, w_odd, s3);
            /* Here and now: the compiler would rather keep all operands for later. */
            __asm__("" : "+r"(s0), "+r"(s1), "+r"(s2), "+r"(s3));
        }
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

/* Computes whole groups of four channels at one pixel. Returns how many channels these are. */
NN_SPECIALIZED int nn_depthwise_3x3(const nn_layer *layer, const int8_t *const *rows, int8_t *out, nn_kind kind)
{
    const int channels = layer->out_channels;
    int c = 0;
    for (; c + 4 <= channels; c += 4) {
        int32_t sums[4];
        nn_sum_3x3(rows, c, layer->weights + c, channels, layer->bias + c, sums);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            out[c + i] = nn_requantize(nn_scale_of(layer, c + i, kind), sums[i] * nn_times(kind), kind);
    }
    return c;
}

/* Values and weights of a depthwise convolution of 3 x 3 are unpacked once to pairs of neighbours in a row. Two sums with
 * stride 1 then take two pairs of each row: the first sum all of the first pair, the second one all of the second pair. */

/* Four bytes as halfwords. */
typedef struct {
    uint32_t even, odd;
} nn_four;

static inline nn_four nn_unpack(const int8_t *from)
{
    const uint32_t word = nn_load4(from);
    const nn_four four = {nn_even(word), nn_odd(word)};
    return four;
}

/* Writes pairs of the first, second, third and fourth of two times four values, `step` words apart. */
static inline void nn_pair_up(nn_four a, nn_four b, uint32_t *to, int step)
{
    to[0] = nn_lower_halves(a.even, b.even);
    to[step] = nn_lower_halves(a.odd, b.odd);
    to[2 * step] = nn_upper_halves(a.even, b.even);
    to[3 * step] = nn_upper_halves(a.odd, b.odd);
}

/* The first two and the last two weights of rows 0, 1, 2, 0, 1, so that three from any of them on can be taken. */
typedef struct {
    uint32_t first[5], last[5];
} nn_weights_3x3;

/* Prepares the weights of four channels, nn_times as large. */
NN_SPECIALIZED void nn_pair_weights(const int8_t *weights, int channels, nn_weights_3x3 to[4], nn_kind kind)
{
    for (int ky = 0; ky < 3; ky++) {
        nn_four w[3];
#pragma GCC unroll 3
        for (int kx = 0; kx < 3; kx++, weights += channels) {
            w[kx] = nn_unpack(weights);
            if (nn_times(kind) == 1) continue;
            w[kx].even = __sadd16(w[kx].even, w[kx].even);
            w[kx].odd = __sadd16(w[kx].odd, w[kx].odd);
        }
        nn_pair_up(w[0], w[1], &to->first[ky], sizeof *to / sizeof to->first[0]);
        nn_pair_up(w[1], w[2], &to->last[ky], sizeof *to / sizeof to->first[0]);
    }
    for (nn_weights_3x3 *const end = to + 4; to < end; to++)
        for (int ky = 0; ky < 2; ky++) {
            to->first[3 + ky] = to->first[ky];
            to->last[3 + ky] = to->last[ky];
        }
}

/* Writes `count` pairs of pixels of a row from column `left` on, four channels each, `step` words apart: at most one column
 * is missing at the left, and one pair at the right. `from` is where the row's first pixel would lie; NULL is padding. */
static inline void nn_pair_pixels(
    const nn_layer *layer, const int8_t *from, int left, int count, uint32_t *to, int step)
{
    const int channels = layer->in_channels, width = layer->in_width;
    const uint32_t zeros = (uint16_t)layer->in_zero * 0x10001u;
    const nn_four padding = {zeros, zeros};
    uint32_t *const end = to + 3 * count;
    if (!from) {
        for (; to < end; to += 3) nn_pair_up(padding, padding, to, step);
        return;
    }
    from += left * channels;
    if (left < 0) {
        nn_pair_up(padding, nn_unpack(from + channels), to, step);
        to += 3;
        from += 2 * channels;
        left += 2;
    }
    uint32_t *const inside = (width - left) / 2 * 3 < end - to ? to + (width - left) / 2 * 3 : end;
    for (; to < inside; to += 3, from += 2 * channels)
        nn_pair_up(nn_unpack(from), nn_unpack(from + channels), to, step);
    if (to < end) nn_pair_up((width - left) % 2 ? nn_unpack(from) : padding, padding, to, step);
}

/* Two neighbouring sums. Pairs lie row by row. */
#define NN_SUM_STRIDE_1                      \
    "ldrd %[x], %[y], [%[pairs]]\n\t"        \
    "smlad %[s0], %[x], %[u0], %[bias]\n\t"  \
    "smlatb %[s1], %[x], %[u0], %[bias]\n\t" \
    "smlad %[s0], %[y], %[u1], %[s0]\n\t"    \
    "smlatb %[s1], %[y], %[u1], %[s1]\n\t"   \
    "ldrd %[x], %[y], [%[pairs], #8]\n\t"    \
    "smlad %[s0], %[x], %[u2], %[s0]\n\t"    \
    "smlatb %[s1], %[x], %[u2], %[s1]\n\t"   \
    "smlabt %[s0], %[y], %[v0], %[s0]\n\t"   \
    "smlad %[s1], %[y], %[v0], %[s1]\n\t"    \
    "ldrd %[x], %[y], [%[pairs], #16]\n\t"   \
    "smlabt %[s0], %[x], %[v1], %[s0]\n\t"   \
    "smlad %[s1], %[x], %[v1], %[s1]\n\t"    \
    "smlabt %[s0], %[y], %[v2], %[s0]\n\t"   \
    "smlad %[s1], %[y], %[v2], %[s1]"
#define NN_SUM_STRIDE_2                      \
    "ldrd %[x], %[y], [%[pairs]]\n\t"        \
    "smlad %[s0], %[x], %[u0], %[bias]\n\t"  \
    "smlad %[s0], %[y], %[u1], %[s0]\n\t"    \
    "ldrd %[x], %[y], [%[pairs], #8]\n\t"    \
    "smlad %[s0], %[x], %[u2], %[s0]\n\t"    \
    "smlabt %[s0], %[y], %[v0], %[s0]\n\t"   \
    "smlad %[s1], %[y], %[u0], %[bias]\n\t"  \
    "ldrd %[x], %[y], [%[pairs], #16]\n\t"   \
    "smlabt %[s0], %[x], %[v1], %[s0]\n\t"   \
    "smlad %[s1], %[x], %[u1], %[s1]\n\t"    \
    "smlabt %[s0], %[y], %[v2], %[s0]\n\t"   \
    "smlad %[s1], %[y], %[u2], %[s1]\n\t"    \
    "ldrd %[x], %[y], [%[pairs], #24]\n\t"   \
    "smlabt %[s1], %[x], %[v0], %[s1]\n\t"   \
    "smlabt %[s1], %[y], %[v1], %[s1]\n\t"   \
    "ldr %[x], [%[pairs], #32]\n\t"          \
    "smlabt %[s1], %[x], %[v2], %[s1]"
#define NN_SUM_3X3(code)                                                                                       \
    __asm__(code                                                                                               \
            : [s0] "=&r"(s0), [s1] "=&r"(s1), [x] "=&r"(x), [y] "=&r"(y)                                       \
            : [pairs] "r"(pairs), [bias] "r"(bias), [u0] "r"(u0), [u1] "r"(u1), [u2] "r"(u2), [v0] "r"(v0),    \
              [v1] "r"(v1), [v2] "r"(v2), "m"(*(const uint32_t(*)[9])pairs))

/* Computes `count` neighbouring outputs of a channel from pairs and the weights of the same rows. */
NN_SPECIALIZED void nn_depthwise_channel(const nn_layer *layer, int c, const uint32_t *pairs, const uint32_t *first,
                                         const uint32_t *last, int count, int8_t *out, const int stride, nn_kind kind)
{
    const uint32_t u0 = first[0], u1 = first[1], u2 = first[2], v0 = last[0], v1 = last[1], v2 = last[2];
    const nn_scale scale = nn_scale_of(layer, c, kind);
    const int32_t bias = layer->bias[c] * nn_times(kind);
    const int channels = layer->out_channels;
    const uint32_t *const end = pairs + count / 2 * 3 * stride;
    for (; pairs < end; pairs += 3 * stride, out += 2 * channels) {
        int32_t s0, s1;
        uint32_t x, y;
        if (stride == 1) NN_SUM_3X3(NN_SUM_STRIDE_1);
        else NN_SUM_3X3(NN_SUM_STRIDE_2);
        out[0] = nn_requantize(scale, s0, kind);
        out[channels] = nn_requantize(scale, s1, kind);
    }
    if (count % 2 == 0) return;
    int32_t sum = __smlad(pairs[0], u0, __smlad(pairs[1], u1, __smlad(pairs[2], u2, bias)));
    sum = __smlabt(pairs[3], v0, __smlabt(pairs[4], v1, __smlabt(pairs[5], v2, sum)));
    out[0] = nn_requantize(scale, sum, kind);
}

/* The same for four channels, with the weights from row `row` on. */
NN_SPECIALIZED void nn_depthwise_group(const nn_layer *layer, int c, const uint32_t *pairs, const nn_weights_3x3 *weights,
                                       int row, int count, int8_t *out, const int stride, nn_kind kind)
{
    for (const nn_weights_3x3 *const end = weights + 4; weights < end; weights++, c++, pairs += 3 * layer->pairs)
        nn_depthwise_channel(layer, c, pairs, weights->first + row, weights->last + row, count, out + c, stride, kind);
}

/* Computes row y of whole groups of four channels with a stride of 1 or 2, as many columns at a time as the layer's
 * pairs reach. A layer that keeps them unpacks only the rows that the output row before it did not need, each in place
 * of one that is needed no more. Returns how many channels these are. */
NN_SPECIALIZED int nn_depthwise_pairs(
    const nn_layer *layer, const nn_rows *in, int y, int8_t *out, int8_t *scratch, nn_kind kind)
{
    const int channels = layer->out_channels, width = layer->out_width, step = 3 * layer->pairs;
    const int stride = layer->stride_width;
    const int top = y * layer->stride_height - layer->pad_top, most = (layer->pairs - 1) * 2 / stride;
    const int is_kept = layer->keeps_pairs && y, turned = (3 - (top + 3) % 3) % 3;
    const int there = is_kept && layer->stride_height < 3 ? 3 - layer->stride_height : 0;
    int c = 0;
    for (; c + 4 <= channels; c += 4) {
        nn_weights_3x3 *const weights = (nn_weights_3x3 *)__builtin_assume_aligned(scratch, 4);
        uint32_t *const pairs = (uint32_t *)(weights + 4);
        if (layer->keeps_pairs) scratch = (int8_t *)(pairs + 4 * step);
        if (!is_kept) nn_pair_weights(layer->weights + c, channels, weights, kind);
        for (int x = 0; x < width; x += most) {
            const int count = nn_minimum(width - x, most), left = x * stride - layer->pad_left;
            for (int row = top + there; row < top + 3; row++) {
                const int8_t *const from = row < 0 || row >= layer->in_height ? NULL : nn_row(in, row) + c;
                nn_pair_pixels(layer, from, left, (count * stride + 1) / 2 + 1, pairs + (row + 3) % 3, step);
            }
            if (stride == 1) nn_depthwise_group(layer, c, pairs, weights, turned, count, out + x * channels, 1, kind);
            else nn_depthwise_group(layer, c, pairs, weights, turned, count, out + x * channels, 2, kind);
        }
    }
    return c;
}

#endif
