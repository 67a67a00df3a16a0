/* Integer kernels for int8 MobileNet-like networks: C99, no heap, no floating point but in nn_dequantize.
 *
 * They give what the TensorFlow Lite reference kernels give, bit for bit. A convolution works row by row, so that the
 * same kernels run whole maps, and several layers in step with only a few rows of each in memory (nn_run).
 * The compiler leaves out every function that the network does not call.
 *
 * With the DSP extension of Arm (Cortex-M4, M7, M33, M55) the inner loops multiply two pairs of 16 bits at once;
 * -DNN_PORTABLE chooses the portable loops there too.
 *
 * The network defines before it includes this file:
 *   NN_MAX_TAPS         the most weights that a depthwise kernel has for one channel
 *   NN_MAX_STEPS        the most layers that run in step
 *   NN_ANY_MULTIPLIER   1 where a layer multiplies its sums by 0.5 or more, else 0
 */
#ifndef NN_KERNELS_H
#define NN_KERNELS_H

#include <stdint.h>
#include <string.h>

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP && !defined(NN_PORTABLE)
#define NN_DSP 1
#include <arm_acle.h>
#else
#define NN_DSP 0
#endif

#define NN_LANES 4 /* pixels that a convolution works on at a time */

/* A layer over a map of height, width and channels. */
typedef struct {
    int32_t in_width, out_width; /* all pixels of the map where a kernel of 1 x 1 takes them as one row */
    int16_t in_height, in_channels, out_height, out_channels;
    int16_t kernel_height, kernel_width, stride_height, stride_width, pad_top, pad_left;
    int16_t in_zero, out_zero; /* zero points */
    int16_t low, high;         /* where the activation function clamps */
    int16_t per_channel;       /* 1: a multiplier for each output channel, 0: one for all */
    int32_t weights_each;      /* weights of one output channel, padded with zeros to a multiple of 4 */
    const int8_t *weights;     /* convolution: [out][height][width][in], depthwise: [height][width][channel] */
    const int32_t *bias;       /* less the zero point of the input times the sum of the weights */
    const int32_t *multiplier; /* in units of 2^-31 */
    const int8_t *shift;       /* then a power of two; to the right where negative */
} nn_layer;

/* The rows of a map that are in memory: row y lies at place y modulo `held`. */
typedef struct {
    int8_t *base;
    int32_t row_bytes;
    int32_t held;
} nn_rows;

/* Computes row y of a layer's output. */
typedef void nn_kernel(const nn_layer *layer, const nn_rows *in, int y, int8_t *out, int8_t *scratch);

/* A layer, and where in the arena its buffers lie: offsets in bytes, and the rows that are held of each map. */
typedef struct {
    nn_kernel *kernel;
    const nn_layer *layer;
    int32_t in, in_held, out, out_held, scratch;
} nn_step;

static inline int nn_minimum(int a, int b) { return a < b ? a : b; }

static inline int8_t *nn_row(const nn_rows *map, int y)
{
    return map->base + (map->held > y ? y : y % map->held) * map->row_bytes;
}

/* ---- Requantization -------------------------------------------------------------------------------------------- */

/* a * b / 2^31, rounded to nearest, halves up. */
static inline int32_t nn_high_multiply(int32_t a, int32_t b)
{
    return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
}

/* a / 2^exponent for an exponent of 0 to 31, rounded to nearest, halves away from zero. */
static inline int32_t nn_round_shift(int32_t a, int exponent)
{
    const int32_t mask = (int32_t)((1u << exponent) - 1u);
    return (a >> exponent) + ((a & mask) > (mask >> 1) + (a < 0));
}

/* A sum times multiplier * 2^(shift - 31), rounded twice as TensorFlow Lite does. */
static inline int32_t nn_scale(int32_t sum, int32_t multiplier, int shift)
{
#if NN_ANY_MULTIPLIER
    const int32_t shifted = shift > 0 ? (int32_t)((uint32_t)sum << shift) : sum;
    return nn_round_shift(nn_high_multiply(shifted, multiplier), shift > 0 ? 0 : -shift);
#else
    const int32_t scaled = nn_high_multiply(sum, multiplier);
    return (((scaled + (scaled >> 31)) >> (-1 - shift)) + 1) >> 1;
#endif
}

static inline int8_t nn_clamp(int32_t value, int low, int high)
{
#if NN_DSP
    if (high - low == 255) return (int8_t)__ssat(value, 8);
#endif
    return (int8_t)(value < low ? low : value > high ? high : value);
}

static inline int8_t nn_requantize(const nn_layer *layer, int32_t sum, int32_t multiplier, int shift)
{
    return nn_clamp(nn_scale(sum, multiplier, shift) + layer->out_zero, layer->low, layer->high);
}

/* ---- Inner loops ----------------------------------------------------------------------------------------------- */

#if NN_DSP
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

/* Writes `count` values as halfwords to one of four interleaved lanes. */
static inline void nn_widen(const int8_t *from, int count, uint32_t *lane)
{
    for (int i = 0; i < count; i += 4, lane += 2 * NN_LANES) {
        const uint32_t word = nn_load4(from + i);
        lane[0] = nn_even(word);
        lane[1] = nn_odd(word);
    }
}

/* Adds to four sums the products of one row of weights with each of four lanes. */
static inline void nn_dot_lanes(const uint32_t *lanes, const int8_t *weights, int count, int32_t sums[NN_LANES])
{
    int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    const int8_t *const end = weights + count;
    do {
        const uint32_t word = nn_load4(weights);
        const uint32_t even = nn_even(word), odd = nn_odd(word);
        s0 = __smlad(even, lanes[0], s0);
        s0 = __smlad(odd, lanes[1], s0);
        s1 = __smlad(even, lanes[2], s1);
        s1 = __smlad(odd, lanes[3], s1);
        s2 = __smlad(even, lanes[4], s2);
        s2 = __smlad(odd, lanes[5], s2);
        s3 = __smlad(even, lanes[6], s3);
        s3 = __smlad(odd, lanes[7], s3);
        lanes += 2 * NN_LANES;
        weights += 4;
    } while (weights != end);
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

/* Convolves up to four pixels at a time. */
static inline void nn_convolve_lanes(const nn_layer *layer, const uint32_t *lanes, int valid, int8_t *out)
{
    const int8_t *weights = layer->weights;
    const int32_t *multiplier = layer->multiplier;
    const int8_t *shift = layer->shift;
    const int channels = layer->out_channels;
    for (int c = 0; c < channels; c++) {
        int32_t sums[NN_LANES] = {layer->bias[c], layer->bias[c], layer->bias[c], layer->bias[c]};
        nn_dot_lanes(lanes, weights, layer->weights_each, sums);
        out[c] = nn_requantize(layer, sums[0], *multiplier, *shift);
        out[c + channels] = nn_requantize(layer, sums[1], *multiplier, *shift);
        out[c + 2 * channels] = nn_requantize(layer, sums[2], *multiplier, *shift);
        if (valid > 3) out[c + 3 * channels] = nn_requantize(layer, sums[3], *multiplier, *shift);
        weights += layer->weights_each;
        multiplier += layer->per_channel;
        shift += layer->per_channel;
    }
}

/* Sums a depthwise kernel over four channels, `taps` pixels of them. */
static inline __attribute__((always_inline)) void nn_depthwise4(
    const int8_t *const *tap, int taps, int c, const int8_t *weights, int channels, int32_t sums[4])
{
    int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
#pragma GCC unroll 9
    for (int t = 0; t < taps; t++, weights += channels) {
        const uint32_t x = nn_load4(tap[t] + c), w = nn_load4(weights);
        const uint32_t x_even = nn_even(x), x_odd = nn_odd(x), w_even = nn_even(w), w_odd = nn_odd(w);
        s0 = __smlabb(x_even, w_even, s0);
        s1 = __smlabb(x_odd, w_odd, s1);
        s2 = __smlatt(x_even, w_even, s2);
        s3 = __smlatt(x_odd, w_odd, s3);
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}
#endif

static inline int32_t nn_dot(const int8_t *values, const int8_t *weights, int count, int32_t sum)
{
    int i = 0;
#if NN_DSP
    for (; i + 4 <= count; i += 4) {
        const uint32_t x = nn_load4(values + i), w = nn_load4(weights + i);
        sum = __smlad(nn_even(x), nn_even(w), sum);
        sum = __smlad(nn_odd(x), nn_odd(w), sum);
    }
#endif
    for (; i < count; i++) sum += values[i] * weights[i];
    return sum;
}

/* ---- Layers, one row at a time --------------------------------------------------------------------------------- */

/* The values below the kernel at one pixel, in the order of the weights; those in the padding are the zero point. */
static inline const int8_t *nn_patch(const nn_layer *layer, const nn_rows *in, int y, int x, int8_t *patch)
{
    const int channels = layer->in_channels;
    const int top = y * layer->stride_height - layer->pad_top, left = x * layer->stride_width - layer->pad_left;
    if (layer->kernel_height * layer->kernel_width == 1) return nn_row(in, top) + left * channels;
    const int skipped = left < 0 ? -left : 0;
    const int inside = nn_minimum(layer->kernel_width, layer->in_width - left) - skipped;
    const int width = layer->kernel_width * channels;
    for (int ky = 0; ky < layer->kernel_height; ky++) {
        int8_t *to = patch + ky * width;
        const int outside = top + ky < 0 || top + ky >= layer->in_height;
        if (outside || inside < layer->kernel_width) memset(to, layer->in_zero, (size_t)width);
        if (outside) continue;
        const int8_t *from = nn_row(in, top + ky) + (left + skipped) * channels;
        to += skipped * channels;
        for (int i = 0; i < inside * channels; i++) to[i] = from[i];
    }
    return patch;
}

/* A convolution of any kernel; a fully connected layer is one of 1 x 1 on a map of 1 x 1. */
static inline void nn_convolution(const nn_layer *layer, const nn_rows *in, int y, int8_t *out, int8_t *scratch)
{
    const int count = layer->kernel_height * layer->kernel_width * layer->in_channels;
    const int width = layer->out_width, channels = layer->out_channels;
    int x = 0;
#if NN_DSP
    uint32_t *lanes = (uint32_t *)__builtin_assume_aligned(scratch, 4);
    scratch += NN_LANES * 2 * layer->weights_each;
    for (; x + 3 <= width; x += NN_LANES) {
        const int valid = nn_minimum(NN_LANES, width - x);
        for (int lane = 0; lane < NN_LANES; lane++) {
            const int8_t *patch = nn_patch(layer, in, y, x + nn_minimum(lane, valid - 1), scratch);
            nn_widen(patch, count, lanes + 2 * lane);
        }
        nn_convolve_lanes(layer, lanes, valid, out + x * channels);
    }
#endif
    for (; x < width; x++) {
        const int8_t *patch = nn_patch(layer, in, y, x, scratch);
        const int8_t *weights = layer->weights;
        for (int c = 0; c < channels; c++, weights += layer->weights_each) {
            const int scale = c * layer->per_channel;
            const int32_t sum = nn_dot(patch, weights, count, layer->bias[c]);
            out[x * channels + c] = nn_requantize(layer, sum, layer->multiplier[scale], layer->shift[scale]);
        }
    }
}

/* A depthwise convolution with one output channel for each input channel. */
static inline void nn_depthwise(const nn_layer *layer, const nn_rows *in, int y, int8_t *out, int8_t *scratch)
{
    const int channels = layer->out_channels, taps = layer->kernel_height * layer->kernel_width;
    const int8_t *tap[NN_MAX_TAPS];
    memset(scratch, layer->in_zero, (size_t)channels); /* what lies in the padding */
    for (int x = 0; x < layer->out_width; x++, out += channels) {
        const int left = x * layer->stride_width - layer->pad_left;
        for (int ky = 0, t = 0; ky < layer->kernel_height; ky++) {
            const int row = y * layer->stride_height - layer->pad_top + ky;
            const int8_t *from = row < 0 || row >= layer->in_height ? 0 : nn_row(in, row);
            for (int column = left; column < left + layer->kernel_width; column++)
                tap[t++] = from && column >= 0 && column < layer->in_width ? from + column * channels : scratch;
        }
        const int32_t *multiplier = layer->multiplier;
        const int8_t *shift = layer->shift;
        int c = 0;
#if NN_DSP
        for (; c + 4 <= channels; c += 4) {
            int32_t sums[4] = {layer->bias[c], layer->bias[c + 1], layer->bias[c + 2], layer->bias[c + 3]};
            if (taps == 9)
                nn_depthwise4(tap, 9, c, layer->weights + c, channels, sums);
            else
                nn_depthwise4(tap, taps, c, layer->weights + c, channels, sums);
            for (int i = 0; i < 4; i++, multiplier += layer->per_channel, shift += layer->per_channel)
                out[c + i] = nn_requantize(layer, sums[i], *multiplier, *shift);
        }
#endif
        for (; c < channels; c++, multiplier += layer->per_channel, shift += layer->per_channel) {
            int32_t sum = layer->bias[c];
            for (int t = 0; t < taps; t++) sum += tap[t][c] * layer->weights[t * channels + c];
            out[c] = nn_requantize(layer, sum, *multiplier, *shift);
        }
    }
}

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

/* Runs layers in step: each time the deepest one whose input rows are there computes a row, so that of the maps in
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
    for (int i = 0; i < count; i++) out[i] = (int8_t)(image[i] - 128);
}

/* From pixels to int8 through a table of 256; `out` may be `image`. */
static inline void nn_quantize_by_table(const uint8_t *image, int count, const int8_t *table, int8_t *out)
{
    for (int i = 0; i < count; i++) out[i] = table[image[i]];
}

/* Averages each channel over the map; the layer's one multiplier holds the division. */
static inline void nn_mean(const nn_layer *layer, const int8_t *in, int8_t *out)
{
    const int pixels = layer->in_height * layer->in_width, channels = layer->in_channels;
    for (int c = 0; c < channels; c++) {
        int32_t sum = layer->bias[0];
        for (int i = 0; i < pixels; i++) sum += in[i * channels + c];
        out[c] = nn_requantize(layer, sum, layer->multiplier[0], layer->shift[0]);
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
        out[i] = nn_clamp(value - 128, -128, 127);
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
