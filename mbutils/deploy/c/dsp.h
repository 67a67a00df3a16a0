/* Inner loops for the DSP extension of Arm (Cortex-M4, M7, M33). kernels.h includes this file there.
 *
 * An instruction multiplies two pairs of 16 bits and adds the products up, so values and weights become halfwords first:
 * those of a patch once for all output channels, the weights once for all pixels that are worked on together.
 *
 * The innermost loops are in assembly: they take all registers, and compilers would move values to and fro. */
#ifndef NN_DSP_H
#define NN_DSP_H

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

/* ---- Convolution ----------------------------------------------------------------------------------------------- */

/* Writes `count` values, a multiple of 4, to one of the lanes, nn_times as large: [count / 4][even and odd ones][lane]. */
NN_SPECIALIZED void nn_widen(const int8_t *from, int count, uint32_t *lane, nn_kind kind)
{
    for (const int8_t *const end = from + count; from < end; from += 4, lane += 2 * NN_LANES) {
        const uint32_t word = nn_load4(from);
        uint32_t even = nn_even(word), odd = nn_odd(word);
        if (nn_times(kind) == 2) even = __sadd16(even, even);
        if (nn_times(kind) == 2) odd = __sadd16(odd, odd);
        lane[0] = even;
        lane[NN_LANES] = odd;
    }
}

/* Four lanes times the weights of two channels: two values of each. `weights` loads four of both, `unpack` takes two. */
#define NN_CONVOLVE_2X4(weights, unpack)     \
    "ldrd %[a], %[b], [%[weights]]" weights  \
    "ldrd %[x0], %[x1], [%[lanes]], #8\n\t"  \
    "sxtb16 %[a], %[a]" unpack               \
    "sxtb16 %[b], %[b]" unpack               \
    "smlad %[a0], %[x0], %[a], %[a0]\n\t"    \
    "smlad %[b0], %[x0], %[b], %[b0]\n\t"    \
    "smlad %[a1], %[x1], %[a], %[a1]\n\t"    \
    "smlad %[b1], %[x1], %[b], %[b1]\n\t"    \
    "ldrd %[x0], %[x1], [%[lanes]], #8\n\t"  \
    "smlad %[a2], %[x0], %[a], %[a2]\n\t"    \
    "smlad %[b2], %[x0], %[b], %[b2]\n\t"    \
    "smlad %[a3], %[x1], %[a], %[a3]\n\t"    \
    "smlad %[b3], %[x1], %[b], %[b3]\n\t"
#define NN_CONVOLVE_8X4 NN_CONVOLVE_2X4("\n\t", "\n\t") NN_CONVOLVE_2X4(", #8\n\t", ", ror #8\n\t")

/* Adds the products of four lanes and the weights of two channels, up to `end`. Returns that. */
static inline const int8_t *nn_convolve_2x4(
    const uint32_t *lanes, const int8_t *weights, const int8_t *end, int32_t sums[2][NN_LANES])
{
    int32_t a, b, x0, x1, *const sa = sums[0], *const sb = sums[1];
    __asm__ volatile("1:\n\t" NN_CONVOLVE_8X4 NN_CONVOLVE_8X4
                     "ldr %[x0], %[end]\n\t"
                     "cmp %[x0], %[weights]\n\t"
                     "bne 1b"
                     : [a0] "+r"(sa[0]), [a1] "+r"(sa[1]), [a2] "+r"(sa[2]), [a3] "+r"(sa[3]), [b0] "+r"(sb[0]),
                       [b1] "+r"(sb[1]), [b2] "+r"(sb[2]), [b3] "+r"(sb[3]), [lanes] "+r"(lanes),
                       [weights] "+r"(weights), [a] "=&r"(a), [b] "=&r"(b), [x0] "=&r"(x0), [x1] "=&r"(x1)
                     : [end] "m"(end)
                     : "cc", "memory");
    return weights;
}

/* Writes the outputs of one channel at four pixels. */
NN_SPECIALIZED void nn_write_lanes(nn_scale scale, const int32_t *sums, int channels, int8_t *out, nn_kind kind)
{
    out[0] = nn_requantize(scale, sums[0], kind);
    out[channels] = nn_requantize(scale, sums[1], kind);
    out[2 * channels] = nn_requantize(scale, sums[2], kind);
    out[3 * channels] = nn_requantize(scale, sums[3], kind);
}

/* Convolves four pixels. */
NN_SPECIALIZED void nn_convolve_lanes(const nn_layer *layer, const uint32_t *lanes, int8_t *out, nn_kind kind)
{
    const int8_t *weights = layer->weights;
    const int channels = layer->out_channels, each = layer->weights_each;
    for (int c = 0; c < channels; c += 2) {
        const int32_t a = layer->bias[c] * nn_times(kind), b = layer->bias[c + 1] * nn_times(kind);
        int32_t sums[2][NN_LANES] = {{a, a, a, a}, {b, b, b, b}};
        weights = nn_convolve_2x4(lanes, weights, weights + 2 * each, sums);
        nn_write_lanes(nn_scale_of(layer, c, kind), sums[0], channels, out + c, kind);
        if (c + 1 == channels) break;
        nn_write_lanes(nn_scale_of(layer, c + 1, kind), sums[1], channels, out + c + 1, kind);
    }
}

/* Convolves one pixel, the first of the lanes. */
NN_SPECIALIZED void nn_convolve_lane(const nn_layer *layer, const uint32_t *lanes, int8_t *out, nn_kind kind)
{
    const int8_t *weights = layer->weights;
    const int channels = layer->out_channels, each = layer->weights_each;
    for (int c = 0; c < channels; c += 2) {
        int32_t a = layer->bias[c] * nn_times(kind), b = layer->bias[c + 1] * nn_times(kind);
        const uint32_t *lane = lanes;
        for (const int8_t *const end = weights + 2 * each; weights != end; weights += 8, lane += 2 * NN_LANES) {
            const uint32_t even = lane[0], odd = lane[NN_LANES], word_a = nn_load4(weights), word_b = nn_load4(weights + 4);
            a = __smlad(odd, nn_odd(word_a), __smlad(even, nn_even(word_a), a));
            b = __smlad(odd, nn_odd(word_b), __smlad(even, nn_even(word_b), b));
        }
        out[c] = nn_requantize(nn_scale_of(layer, c, kind), a, kind);
        if (c + 1 < channels) out[c + 1] = nn_requantize(nn_scale_of(layer, c + 1, kind), b, kind);
    }
}

/* Computes row y of a convolution of any kernel. */
NN_SPECIALIZED void nn_convolve_halfwords(
    const nn_layer *layer, const nn_rows *in, int y, int8_t *out, int8_t *scratch, nn_kind kind)
{
    const int width = layer->out_width, channels = layer->out_channels, each = layer->weights_each;
    uint32_t *const lanes = (uint32_t *)__builtin_assume_aligned(scratch, 4);
    int8_t *const patch = scratch + 2 * NN_LANES * each;
    for (int x = 0, pixels; x < width; x += pixels, out += pixels * channels) {
        pixels = width - x < NN_LANES ? 1 : NN_LANES;
        for (int lane = 0; lane < pixels; lane++)
            nn_widen(nn_patch(layer, in, y, x + lane, patch), each, lanes + lane, kind);
        if (pixels == 1) nn_convolve_lane(layer, lanes, out, kind);
        else nn_convolve_lanes(layer, lanes, out, kind);
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

#endif
