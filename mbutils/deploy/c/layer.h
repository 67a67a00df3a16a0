/* What the kernels and their inner loops for some cores share: the layer, its outputs, and the patches of its input. */
#ifndef NN_LAYER_H
#define NN_LAYER_H

#include <stdint.h>
#include <string.h>

/* Without optimization, compilers have too few registers for these loops; so they have with -fno-omit-frame-pointer, which
 * needs -DNN_PORTABLE. */
#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP && defined(__OPTIMIZE__) && !defined(NN_PORTABLE)
#define NN_DSP 1
#include <arm_acle.h>
#else
#define NN_DSP 0
#endif

#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE && !defined(NN_PORTABLE)
#define NN_HELIUM 1
#else
#define NN_HELIUM 0
#endif

/* Whole words can be loaded from such an array. */
#if defined(__GNUC__)
#define NN_ALIGNED __attribute__((aligned(4)))
#else
#define NN_ALIGNED
#endif

/* For functions that are compiled anew where an argument is a constant. */
#if defined(__GNUC__)
#define NN_SPECIALIZED static inline __attribute__((always_inline))
#else
#define NN_SPECIALIZED static inline
#endif

#define NN_LANES 4 /* pixels that a convolution works on at a time */

/* A layer over a map of height, width and channels.
 *
 * The weights of a convolution are interleaved for two output channels: [out / 2][weights_each / 4][2][4]. Zeros fill the
 * last pair of channels, and each channel to a multiple of 8.
 *
 * Weights of 4 bits are packed: [out / 2][weights_each], in each byte 16 a + b + 8 for the weights a and b of two channels.
 * Its lower four bits are b + 8, so that with the byte as it is, values x give both sums without unpacking a:
 *     sum of x * b = sum of x * (byte & 15) - 8 * sum of x,    sum of x * a = (sum of x * byte - sum of x * (byte & 15)) / 16
 * The sum of x is the same for all output channels. */
typedef struct {
    int32_t in_width, out_width; /* all pixels of the map if a kernel of 1 x 1 treats them as one row */
    int16_t in_height, in_channels, out_height, out_channels;
    int16_t kernel_height, kernel_width, stride_height, stride_width, pad_top, pad_left;
    int16_t in_zero, out_zero; /* zero points */
    int16_t low, high;         /* where the activation function clamps */
    int16_t per_channel;       /* 1: a multiplier for each output channel, 0: one for all */
    int16_t pairs;             /* pairs of columns that a depthwise layer has scratch memory for, 0 for none */
    int16_t keeps_pairs;       /* 1: of all channels, and nothing else uses this memory before the next row */
    int16_t bits;              /* of a weight of a convolution: 8 or 4 */
    int32_t patch;             /* weights of one output channel of a convolution */
    int32_t weights_each;      /* the same, padded with zeros in a convolution */
    const int8_t *weights;     /* depthwise: [height][width][channel], fully connected: [out][in] */
    const int32_t *bias;       /* less the zero point of the input times the sum of the weights */
    const int32_t *multiplier; /* in units of 2^-31 */
    const int8_t *right;       /* then a shift to the right by one more; NULL where the multipliers hold that shift */
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

/* What is known of the outputs of a layer when the network is generated. But for NN_ANY, sums are kept twice as large:
 * the upper half of their product with a multiplier is then what TensorFlow Lite computes. */
typedef enum {
    NN_STEEP,     /* as NN_RECTIFIED, with multipliers below 1 and sums below 2^29; `right` is -1 to 21 */
    NN_RECTIFIED, /* as NN_SMALL, with the zero point -128, so that negative values do not count; `right` is at most 22 */
    NN_SMALL,     /* sums below 2^30, multipliers below 0.5, and all of int8 as outputs */
    NN_ANY
} nn_kind;

/* How the sums of one output channel become int8. */
typedef struct {
    int32_t multiplier, right;
    int32_t offset;    /* twice the zero point, and 1 to round; added before the shift where this is one to the right */
    int32_t low, high; /* clamps */
} nn_scale;

/* The shift to the right of a channel, less one. In some networks the lowest bits of a multiplier may hold its shift: then
 * the bits above were chosen so that no output changes. */
static inline int nn_right(const nn_layer *layer, int place)
{
    const int is_held = NN_SHIFT_BITS && !layer->right;
    return is_held ? (layer->multiplier[place] & NN_SHIFT_BITS) - 1 : layer->right[place];
}

NN_SPECIALIZED nn_scale nn_scale_of(const nn_layer *layer, int c, nn_kind kind)
{
    const int place = c * layer->per_channel, right = nn_right(layer, place) + (kind == NN_STEEP);
    const int32_t offset = kind <= NN_RECTIFIED ? -255 * (1 << right) : 2 * layer->out_zero + 1;
    const nn_scale scale = {layer->multiplier[place], right, offset, layer->low, layer->high};
    return scale;
}

/* value / 2 as int8, or the nearest int8. */
static inline int8_t nn_saturated_half(int32_t value)
{
#if NN_DSP
    int32_t half; /* one instruction, where __ssat would take two */
    __asm__("ssat %0, #8, %1, asr #1" : "=r"(half) : "r"(value));
    return (int8_t)half;
#else
    return (int8_t)(value < -256 ? -128 : value > 255 ? 127 : value >> 1);
#endif
}

/* The sum of the first of two channels with packed weights, from the sums with whole bytes and with their lower bits. */
static inline int32_t nn_first_of_packed(int32_t whole, int32_t lower)
{
    return (int32_t)((uint32_t)whole - (uint32_t)lower) >> 4;
}

/* How much larger than in the layer sums are kept. */
static inline int nn_times(nn_kind kind) { return kind == NN_ANY ? 1 : 2; }

/* a * b / 2^32 + c, rounded to nearest, halves up. */
static inline int32_t nn_multiply_add_high(int32_t a, int32_t b, int32_t c)
{
#if NN_DSP
    int32_t high; /* one instruction, which arm_acle.h of older compilers lacks */
    __asm__("smmlar %0, %1, %2, %3" : "=r"(high) : "r"(a), "r"(b), "r"(c));
    return high;
#else
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32) + c;
#endif
}

/* A sum, nn_times as large, times multiplier * 2^-31, then shifted to the right by `right` + 1, as an output. Both steps
 * round, as TensorFlow Lite does it: the first one halves up, the second one halves away from zero. */
NN_SPECIALIZED int8_t nn_requantize(nn_scale scale, int32_t sum, nn_kind kind)
{
    const int right = scale.right;
    /* Negative values end at -128, however they are rounded. */
    if (kind == NN_STEEP)
        return nn_saturated_half((scale.offset + 2 * nn_multiply_add_high(sum, scale.multiplier, 0)) >> right);
    if (kind == NN_RECTIFIED) return nn_saturated_half(nn_multiply_add_high(sum, scale.multiplier, scale.offset) >> right);
    if (kind == NN_SMALL) {
        const int32_t scaled = nn_multiply_add_high(sum, scale.multiplier, 0);
        return nn_saturated_half(((scaled + (scaled >> 31)) >> right) + scale.offset);
    }
    const int32_t shifted = right < -1 ? (int32_t)((uint32_t)sum << (-1 - right)) : sum;
    const int32_t scaled = nn_round_shift(nn_high_multiply(shifted, scale.multiplier), right < -1 ? 0 : 1 + right);
    const int8_t value = nn_saturated_half(2 * scaled + scale.offset);
    return (int8_t)(value < scale.low ? scale.low : value > scale.high ? scale.high : value);
}

/* ---- Layers, one row at a time --------------------------------------------------------------------------------- */

/* Whether all of a kernel at one pixel lies inside the map. */
static inline int nn_is_inside(const nn_layer *layer, int top, int left)
{
    return top >= 0 && left >= 0 && top + layer->kernel_height <= layer->in_height &&
           left + layer->kernel_width <= layer->in_width;
}

/* Copies the values below a kernel, in the order of its weights; those in the padding are the zero point. */
static inline void nn_copy_padded(const nn_layer *layer, const nn_rows *in, int top, int left, int8_t *patch)
{
    const int channels = layer->in_channels, width = layer->kernel_width * channels;
    const int skipped = left < 0 ? -left : 0;
    const int inside = nn_minimum(layer->kernel_width, layer->in_width - left) - skipped;
    memset(patch, layer->in_zero, (size_t)(layer->kernel_height * width));
    for (int ky = 0; ky < layer->kernel_height; ky++, patch += width)
        if (top + ky >= 0 && top + ky < layer->in_height)
            memcpy(patch + skipped * channels, nn_row(in, top + ky) + (left + skipped) * channels,
                   (size_t)(inside * channels));
}

/* The values below the kernel at one pixel; in place where they are contiguous. */
static inline const int8_t *nn_patch(const nn_layer *layer, const nn_rows *in, int y, int x, int8_t *patch)
{
    const int channels = layer->in_channels, width = layer->kernel_width * channels;
    const int top = y * layer->stride_height - layer->pad_top, left = x * layer->stride_width - layer->pad_left;
    if (layer->patch == channels) return nn_row(in, top) + left * channels;
    if (!nn_is_inside(layer, top, left)) {
        nn_copy_padded(layer, in, top, left, patch);
        return patch;
    }
    /* Whole words: what is copied beyond a row is overwritten by the next one, or meets weights of zero. */
    for (int ky = 0; ky < layer->kernel_height; ky++) {
        const int8_t *from = nn_row(in, top + ky) + left * channels;
        for (int i = 0; i < width; i += 4) memcpy(patch + ky * width + i, from + i, 4);
    }
    return patch;
}

#endif
