/* Integer kernels for int8 MobileNet-like networks: C99, no heap, floating point only in nn_dequantize.
 *
 * Their outputs equal those of the TensorFlow Lite reference kernels, bit for bit. A convolution works row by row, so
 * that the same kernels run whole maps, and stream several layers with only a few rows of each in memory (nn_run).
 * The compiler leaves out every function that the network does not call.
 *
 * With the DSP extension of Arm (Cortex-M4, M7, M33) the inner loops multiply two pairs of 16 bits at once: dsp.h; with
 * Helium (Cortex-M52, M55, M85) 16 pairs of 8 bits: helium.h. -DNN_PORTABLE chooses the portable loops there too.
 *
 * A kernel is compiled for each kind of layer that the network has (nn_kind), so that no layer pays for another.
 *
 * The network defines before it includes this file:
 *   NN_MAX_ROWS         the largest height of a kernel
 *   NN_MAX_STEPS        the most layers that are streamed together
 */
#ifndef NN_KERNELS_H
#define NN_KERNELS_H

#include "layer.h"

#if NN_HELIUM
#include "helium.h"
#elif NN_DSP
#include "dsp.h"
#endif

static inline int32_t nn_dot(const int8_t *values, const int8_t *weights, int count, int32_t sum)
{
    int i = 0;
#if NN_HELIUM
    return nn_dot_vectors(values, weights, count, sum);
#elif NN_DSP
    for (; i + 4 <= count; i += 4) {
        const uint32_t x = nn_load4(values + i), w = nn_load4(weights + i);
        sum = __smlad(nn_even(x), nn_even(w), sum);
        sum = __smlad(nn_odd(x), nn_odd(w), sum);
    }
#endif
    for (; i < count; i++) sum += values[i] * weights[i];
    return sum;
}

/* Makes an nn_kernel of a function for all kinds. */
#define NN_COMPILED_FOR(kernel, name, kind)                                                         \
    static inline void kernel##_##name(                                                             \
        const nn_layer *layer, const nn_rows *in, int y, int8_t *out, int8_t *scratch)              \
    {                                                                                               \
        kernel(layer, in, y, out, scratch, kind);                                                   \
    }

/* Adds the products of two patches with the weights of two channels: sums[channel][patch]. */
NN_SPECIALIZED void nn_dot_2x2(const int8_t *first, const int8_t *second, const int8_t *weights, int count,
    int32_t sums[2][2], const int bits)
{
    int32_t a0 = sums[0][0], a1 = sums[0][1], b0 = sums[1][0], b1 = sums[1][1];
    for (int i = 0; i < count; i += 4, weights += bits)
        for (int j = 0; j < 4; j++) {
            const int32_t x0 = first[i + j], x1 = second[i + j], a = weights[j];
            const int32_t b = bits == 4 ? a & 15 : weights[4 + j];
            a0 += x0 * a;
            a1 += x1 * a;
            b0 += x0 * b;
            b1 += x1 * b;
        }
    sums[0][0] = a0;
    sums[0][1] = a1;
    sums[1][0] = b0;
    sums[1][1] = b1;
}

/* The same for packed weights, with the biases of both channels. */
static inline void nn_dot_2x2_packed(const int8_t *first, const int8_t *second, const int8_t *weights, int count,
    const int32_t *bias, const int32_t *offsets, int32_t sums[2][2])
{
    for (int i = 0; i < 2; i++) sums[0][i] = sums[1][i] = offsets[i];
    nn_dot_2x2(first, second, weights, count, sums, 4);
    for (int i = 0; i < 2; i++) {
        sums[0][i] = bias[0] + nn_first_of_packed(sums[0][i], sums[1][i]);
        sums[1][i] += bias[1];
    }
}

/* What the second of two channels with packed weights starts with. */
static inline int32_t nn_offset(const int8_t *patch, int count)
{
    int32_t sum = 0;
    for (int i = 0; i < count; i++) sum += patch[i];
    return -8 * sum;
}

/* A convolution of any kernel; `may_pack` where its weights may have 4 bits. */
NN_SPECIALIZED void nn_convolve(
    const nn_layer *layer, const nn_rows *in, int y, int8_t *out, int8_t *scratch, nn_kind kind, const int may_pack)
{
    const int bits = may_pack ? layer->bits : 8;
#if NN_HELIUM
    nn_convolve_vectors(layer, in, y, out, scratch, kind, bits);
#elif NN_DSP
    nn_convolve_halfwords(layer, in, y, out, scratch, kind, bits);
#else
    const int width = layer->out_width, channels = layer->out_channels, each = layer->weights_each;
    for (int x = 0; x < width; x += 2) {
        const int count = nn_minimum(2, width - x);
        const int8_t *const first = nn_patch(layer, in, y, x, scratch);
        const int8_t *const second = nn_patch(layer, in, y, x + count - 1, scratch + each);
        const int8_t *weights = layer->weights;
        const int32_t offsets[2] = {bits == 4 ? nn_offset(first, each) : 0, bits == 4 ? nn_offset(second, each) : 0};
        for (int c = 0; c < channels; c += 2, weights += each * bits / 4) {
            const int32_t a = layer->bias[c], b = layer->bias[c + 1];
            int32_t sums[2][2] = {{a, a}, {b, b}};
            if (bits == 4) nn_dot_2x2_packed(first, second, weights, each, layer->bias + c, offsets, sums);
            else nn_dot_2x2(first, second, weights, each, sums, 8);
            for (int i = 0; i < nn_minimum(2, channels - c); i++)
                for (int lane = 0; lane < count; lane++)
                    out[(x + lane) * channels + c + i] =
                        nn_requantize(nn_scale_of(layer, c + i, kind), sums[i][lane] * nn_times(kind), kind);
        }
    }
#endif
}

NN_SPECIALIZED void nn_convolution(
    const nn_layer *layer, const nn_rows *in, int y, int8_t *out, int8_t *scratch, nn_kind kind)
{
    nn_convolve(layer, in, y, out, scratch, kind, 0);
}
NN_COMPILED_FOR(nn_convolution, rectified, NN_RECTIFIED)
NN_COMPILED_FOR(nn_convolution, small, NN_SMALL)
NN_COMPILED_FOR(nn_convolution, any, NN_ANY)

/* Where some convolutions of a network have weights of 4 bits, they share their code with those of 8 bits. */
NN_SPECIALIZED void nn_packed_convolution(
    const nn_layer *layer, const nn_rows *in, int y, int8_t *out, int8_t *scratch, nn_kind kind)
{
    nn_convolve(layer, in, y, out, scratch, kind, 1);
}
NN_COMPILED_FOR(nn_packed_convolution, steep, NN_STEEP)
NN_COMPILED_FOR(nn_packed_convolution, small, NN_SMALL)
NN_COMPILED_FOR(nn_packed_convolution, any, NN_ANY)

/* A depthwise convolution with one output channel for each input channel. */
NN_SPECIALIZED void nn_depthwise(
    const nn_layer *layer, const nn_rows *in, int y, int8_t *out, int8_t *scratch, nn_kind kind)
{
    const int channels = layer->out_channels, height = layer->kernel_height, width = layer->kernel_width;
    const int top = y * layer->stride_height - layer->pad_top;
    const int8_t *rows[NN_MAX_ROWS];
    int done = 0; /* channels */
#if NN_HELIUM
    if (height == 3 && width == 3 && layer->stride_width <= 2) {
        nn_depthwise_vectors(layer, in, y, out, kind);
        return;
    }
#elif NN_DSP
    if (layer->pairs) done = nn_depthwise_pairs(layer, in, y, out, scratch, kind);
#endif
    if (done == channels) return;
    for (int x = 0; x < layer->out_width; x++, out += channels) {
        const int left = x * layer->stride_width - layer->pad_left;
        const int inside = nn_is_inside(layer, top, left);
        if (!inside) nn_copy_padded(layer, in, top, left, scratch);
        for (int ky = 0; ky < height; ky++)
            rows[ky] = inside ? nn_row(in, top + ky) + left * channels : scratch + ky * width * channels;
        int c = done;
#if NN_DSP && !NN_HELIUM
        if (height == 3 && width == 3 && !done) c = nn_depthwise_3x3(layer, rows, out, kind);
#endif
        for (; c < channels; c++) {
            const int8_t *weight = layer->weights + c;
            int32_t sum = layer->bias[c];
            for (int ky = 0; ky < height; ky++)
                for (int kx = 0; kx < width; kx++, weight += channels) sum += rows[ky][kx * channels + c] * *weight;
            out[c] = nn_requantize(nn_scale_of(layer, c, kind), sum * nn_times(kind), kind);
        }
    }
}
NN_COMPILED_FOR(nn_depthwise, rectified, NN_RECTIFIED)
NN_COMPILED_FOR(nn_depthwise, small, NN_SMALL)
NN_COMPILED_FOR(nn_depthwise, any, NN_ANY)

/* Padding as a layer of its own: a frame of zero points around the map. */
static inline void nn_pad(const nn_layer *layer, const nn_rows *in, int y, int8_t *out, int8_t *scratch)
{
    const int row = y - layer->pad_top;
    (void)scratch;
    memset(out, layer->in_zero, (size_t)(layer->out_width * layer->out_channels));
    if (row >= 0 && row < layer->in_height)
        memcpy(out + layer->pad_left * layer->in_channels, nn_row(in, row),
               (size_t)(layer->in_width * layer->in_channels));
}

/* The part of a window that lies inside the map: from its first row and column to those behind its last. */
typedef struct {
    int first_row, end_row, first_column, end_column;
} nn_window;

static inline nn_window nn_window_at(const nn_layer *layer, int y, int x)
{
    const int top = y * layer->stride_height - layer->pad_top, left = x * layer->stride_width - layer->pad_left;
    const nn_window window = {top < 0 ? 0 : top, nn_minimum(top + layer->kernel_height, layer->in_height),
                              left < 0 ? 0 : left, nn_minimum(left + layer->kernel_width, layer->in_width)};
    return window;
}

static inline int8_t nn_clamped(const nn_layer *layer, int32_t value)
{
    return (int8_t)(value < layer->low ? layer->low : value > layer->high ? layer->high : value);
}

/* The mean of each channel under a window, without the padding; halves are rounded away from zero. */
static inline void nn_average_pool(const nn_layer *layer, const nn_rows *in, int y, int8_t *out, int8_t *scratch)
{
    const int channels = layer->in_channels;
    (void)scratch;
    for (int x = 0; x < layer->out_width; x++, out += channels) {
        const nn_window at = nn_window_at(layer, y, x);
        const int32_t count = (at.end_row - at.first_row) * (at.end_column - at.first_column);
        for (int c = 0; c < channels; c++) {
            int32_t sum = 0;
            for (int row = at.first_row; row < at.end_row; row++) {
                const int8_t *from = nn_row(in, row) + c;
                for (int i = at.first_column; i < at.end_column; i++) sum += from[i * channels];
            }
            out[c] = nn_clamped(layer, (sum > 0 ? sum + count / 2 : sum - count / 2) / count);
        }
    }
}

/* The largest value of each channel under a window, without the padding. */
static inline void nn_max_pool(const nn_layer *layer, const nn_rows *in, int y, int8_t *out, int8_t *scratch)
{
    const int channels = layer->in_channels;
    (void)scratch;
    for (int x = 0; x < layer->out_width; x++, out += channels) {
        const nn_window at = nn_window_at(layer, y, x);
        for (int c = 0; c < channels; c++) {
            int8_t largest = INT8_MIN;
            for (int row = at.first_row; row < at.end_row; row++) {
                const int8_t *from = nn_row(in, row) + c;
                for (int i = at.first_column; i < at.end_column; i++)
                    if (from[i * channels] > largest) largest = from[i * channels];
            }
            out[c] = nn_clamped(layer, largest);
        }
    }
}

/* One of the three scalings of a sum: of its inputs, and of the sum itself. */
static inline int32_t nn_sum_scaled(const nn_layer *layer, int which, int32_t value)
{
    return nn_round_shift(nn_high_multiply(value, layer->multiplier[which]), 1 + layer->right[which]);
}

/* The sum of two maps; `other` is the second one, with the zero point bias[0]. */
static inline void nn_add(const nn_layer *layer, const nn_rows *in, int y, int8_t *out, int8_t *other)
{
    const int8_t *const row = nn_row(in, y);
    const int count = layer->out_width * layer->out_channels;
    other += y * count;
    for (int i = 0; i < count; i++) {
        const int32_t sum = nn_sum_scaled(layer, 0, (row[i] - layer->in_zero) * (1 << 20)) +
                            nn_sum_scaled(layer, 1, (other[i] - layer->bias[0]) * (1 << 20));
        out[i] = nn_clamped(layer, nn_sum_scaled(layer, 2, sum) + layer->out_zero);
    }
}

/* Streams layers: each time the deepest one whose input rows are there computes a row, so that of the maps in
 * between only the rows that a kernel covers are held. With one layer, this is the layer on its whole map. */
static inline void nn_run(const nn_step *steps, int count, uint8_t *arena)
{
    int16_t done[NN_MAX_STEPS] = {0};
    int8_t *const base = (int8_t *)arena;
    while (done[count - 1] < steps[count - 1].layer->out_height) {
        int k = count - 1;
        for (; k > 0; k--) {
            const nn_layer *layer = steps[k].layer;
            const int last = done[k] * layer->stride_height - layer->pad_top + layer->kernel_height;
            if (done[k - 1] >= nn_minimum(last, layer->in_height)) break;
        }
        const nn_step *step = steps + k;
        const nn_layer *layer = step->layer;
        const nn_rows in = {base + step->in, layer->in_width * layer->in_channels, step->in_held};
        const nn_rows out = {base + step->out, layer->out_width * layer->out_channels, step->out_held};
        step->kernel(layer, &in, done[k], nn_row(&out, done[k]), base + step->scratch);
        done[k]++;
    }
}

/* ---- Beginning and end of a network ---------------------------------------------------------------------------- */

/* From pixels to int8 where scale and zero point change by 128 only; `out` may be `image`. */
static inline void nn_quantize(const uint8_t *image, int count, int8_t *out)
{
    int i = 0;
    for (; i + 4 <= count; i += 4) {
        uint32_t word;
        memcpy(&word, image + i, sizeof word);
        word ^= 0x80808080u;
        memcpy(out + i, &word, sizeof word);
    }
    for (; i < count; i++) out[i] = (int8_t)(image[i] - 128);
}

/* From pixels to int8 through a table of 256; `out` may be `image`. */
static inline void nn_quantize_by_table(const uint8_t *image, int count, const int8_t *table, int8_t *out)
{
    for (int i = 0; i < count; i++) out[i] = table[image[i]];
}

/* Averages each channel over the map; the layer's one multiplier holds the division. */
static inline void nn_mean(const nn_layer *layer, const int8_t *in, int8_t *out)
{
    const nn_scale scale = nn_scale_of(layer, 0, NN_ANY);
    const int pixels = layer->in_height * layer->in_width, channels = layer->in_channels;
    for (int c = 0; c < channels; c++) {
        int32_t sum = layer->bias[0];
        for (int i = 0; i < pixels; i++) sum += in[i * channels + c];
        out[c] = nn_requantize(scale, sum, NN_ANY);
    }
}

/* A fully connected layer. TensorFlow Lite rounds here once only. */
static inline void nn_fully_connected(const nn_layer *layer, const int8_t *in, int8_t *out)
{
    const int8_t *weights = layer->weights;
    for (int c = 0; c < layer->out_channels; c++, weights += layer->weights_each) {
        const int scale = c * layer->per_channel, right = layer->right[scale];
        const int64_t product = (int64_t)nn_dot(in, weights, layer->patch, layer->bias[c]) * layer->multiplier[scale];
        const int32_t scaled = (int32_t)((product + ((int64_t)1 << (31 + right))) >> (32 + right));
        const int32_t value = scaled + layer->out_zero;
        out[c] = (int8_t)(value < layer->low ? layer->low : value > layer->high ? layer->high : value);
    }
}

/* a * 2^exponent for exponents of 1 to 5, at most the largest and least int32. */
static inline int32_t nn_saturating_shift(int32_t a, int exponent)
{
    const int64_t value = (int64_t)a * (1 << exponent);
    return value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : (int32_t)value;
}

/* exp(a) in units of 2^-31 for a <= 0 in units of 2^-26 (gemmlowp, fixedpoint.h). */
static inline int32_t nn_exponential(int32_t a)
{
    static const int32_t factors[] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    const int32_t quarter = 1 << 24;
    const int32_t remainder_less_quarter = (a & (quarter - 1)) - quarter;
    const int32_t rest = remainder_less_quarter - a;
    if (a == 0) return INT32_MAX;
    /* The Taylor series around -1/8. */
    const int32_t x = nn_saturating_shift(remainder_less_quarter, 5) + (1 << 28);
    const int32_t x2 = nn_high_multiply(x, x);
    const int32_t x3 = nn_high_multiply(x2, x);
    const int32_t x4_over_4 = nn_round_shift(nn_high_multiply(x2, x2), 2);
    const int32_t tail = nn_round_shift(nn_high_multiply(x4_over_4 + x3, 715827883) + x2, 1);
    int32_t result = 1895147668 + nn_high_multiply(1895147668, x + tail);
    for (int i = 0; i < 7; i++)
        if (rest & (1 << (24 + i))) result = nn_high_multiply(result, factors[i]);
    return result;
}

/* 2^31 / (1 + a * 2^-31), by three steps of Newton's method (gemmlowp, fixedpoint.h). */
static inline int32_t nn_reciprocal(int32_t a)
{
    const int32_t half_denominator = (int32_t)(((int64_t)a + INT32_MAX + 1) / 2);
    int32_t x = 1515870810 + nn_high_multiply(half_denominator, -1010580540);
    for (int i = 0; i < 3; i++) {
        const int32_t rest = (1 << 29) - nn_high_multiply(half_denominator, x);
        x += nn_saturating_shift(nn_high_multiply(x, rest), 2);
    }
    return nn_saturating_shift(x, 1);
}

/* The softmax of `count` values, in units of 1/256 with zero point -128. Differences to the largest value below
 * `least` count as nothing; the others are multiplied by multiplier * 2^(shift - 31) to units of 2^-26. */
static inline void nn_softmax(const int8_t *in, int count, int32_t multiplier, int shift, int least, int8_t *out)
{
    int largest = in[0];
    int32_t sum = 0;
    int zeros = 0;
    for (int i = 1; i < count; i++) largest = in[i] > largest ? in[i] : largest;
    for (int i = 0; i < count; i++)
        if (in[i] - largest >= least)
            sum += nn_round_shift(nn_exponential(nn_high_multiply((in[i] - largest) * (1 << shift), multiplier)), 12);
    while (!((uint32_t)sum << zeros & 0x80000000u)) zeros++;
    const int32_t scale = nn_reciprocal((int32_t)(((uint32_t)sum << zeros) - 0x80000000u));
    for (int i = 0; i < count; i++) {
        int32_t value = 0;
        if (in[i] - largest >= least) {
            const int32_t power = nn_exponential(nn_high_multiply((in[i] - largest) * (1 << shift), multiplier));
            value = nn_round_shift(nn_high_multiply(scale, power), 12 - zeros + 31 - 8);
        }
        out[i] = nn_saturated_half(2 * (value - 128));
    }
}

/* From int8 to the scores, and returns the place of the highest. */
static inline int nn_dequantize(const int8_t *in, int count, float scale, int zero, float *scores)
{
    int best = 0;
    for (int i = 0; i < count; i++) {
        scores[i] = (float)(in[i] - zero) * scale;
        if (in[i] > in[best]) best = i;
    }
    return best;
}

#endif
