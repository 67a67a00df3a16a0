/* Inner loops for Helium, the vector extension of Arm (Cortex-M52, M55, M85). kernels.h includes this file there.
 *
 * An instruction multiplies 16 pairs of int8 and adds the products up. In a convolution they are 16 values of a patch;
 * in a depthwise one of 3 x 3 the values below the kernel, which lie together once its rows are interleaved.
 *
 * A loop that ends with LETP leaves out what lies behind the count that it began with, so nothing needs padding. */
#ifndef NN_HELIUM_H
#define NN_HELIUM_H

#include "layer.h"

#include <arm_mve.h>

#define NN_VECTOR 16 /* values of int8 in a vector */

/* Four sums as outputs, in the lowest bytes: nn_requantize on vectors. */
NN_SPECIALIZED int32x4_t nn_requantize_4(
    const nn_layer *layer, int32x4_t sums, int32x4_t multiplier, int32x4_t right, nn_kind kind)
{
    const int32x4_t zero = vdupq_n_s32(0);
    int32x4_t shift = vmvnq_s32(right); /* -1 - right */
    if (kind == NN_ANY) {
        sums = vshlq_s32(sums, vmaxq_s32(shift, zero));
        shift = vminq_s32(shift, zero);
    }
    sums = vqrdmulhq_s32(sums, multiplier);
    /* Halves are rounded away from zero; where outputs below the zero point are clamped, up is as good. */
    if (kind == NN_SMALL) sums = vaddq_s32(sums, vshrq_n_s32(sums, 31));
    if (kind == NN_ANY) sums = vaddq_s32(sums, vshrq_n_s32(vandq_s32(sums, shift), 31));
    sums = vaddq_n_s32(vrshlq_s32(sums, shift), layer->out_zero);
    if (kind == NN_ANY) return vminq_s32(vmaxq_s32(sums, vdupq_n_s32(layer->low)), vdupq_n_s32(layer->high));
    /* In place, where the compiler would copy. */
    __asm__("vqmovnb.s32 %q0, %q0\nvqmovnb.s16 %q0, %q0" : "+w"(sums));
    return sums;
}

/* Four numbers as a vector: two instructions, where the compiler would take four. */
static inline int32x4_t nn_vector(int32_t a, int32_t b, int32_t c, int32_t d)
{
    int32x4_t vector;
    __asm__("vmov %q0[2], %q0[0], %1, %2" : "=w"(vector) : "r"(a), "r"(c));
    __asm__("vmov %q0[3], %q0[1], %1, %2" : "+w"(vector) : "r"(b), "r"(d));
    return vector;
}

static inline int32_t nn_dot_vectors(const int8_t *values, const int8_t *weights, int count, int32_t sum)
{
    int8x16_t v, w;
    __asm__("dlstp.8 lr, %[count]\n"
            "1: vldrb.8 %q[v], [%[values]], #16\n"
            "vldrb.8 %q[w], [%[weights]], #16\n"
            "vmladava.s8 %[sum], %q[v], %q[w]\n"
            "letp lr, 1b"
            : [sum] "+Te"(sum), [values] "+r"(values), [weights] "+r"(weights), [v] "=&w"(v), [w] "=&w"(w)
            : [count] "r"(count), "m"(*(const int8_t(*)[])values), "m"(*(const int8_t(*)[])weights)
            : "lr", "cc");
    return sum;
}

/* ---- Convolution ----------------------------------------------------------------------------------------------- */

#define NN_GROUPS 2 /* of four pixels, which share the multipliers */

/* Vectors of a patch, and bytes of four patches. */
static inline int nn_blocks(const nn_layer *layer) { return (layer->patch + NN_VECTOR - 1) / NN_VECTOR; }

static inline int nn_group_bytes(const nn_layer *layer) { return nn_blocks(layer) * NN_LANES * NN_VECTOR; }

/* Copies a patch to one of the interleaved lanes. */
static inline void nn_copy_to_lane(const int8_t *from, int count, int8_t *lane)
{
    int8x16_t v;
    __asm__ volatile("dlstp.8 lr, %[count]\n"
                     "1: vldrb.8 %q[v], [%[from]], #16\n"
                     "vstrb.8 %q[v], [%[lane]], #64\n"
                     "letp lr, 1b"
                     : [from] "+r"(from), [lane] "+r"(lane), [v] "=&w"(v)
                     : [count] "r"(count)
                     : "lr", "cc", "memory");
}

/* Interleaves the patches of up to eight pixels; the last one again until a group is full. */
static inline void nn_fill_groups(
    const nn_layer *layer, const nn_rows *in, int y, int x, int pixels, int8_t *lanes, int8_t *scratch)
{
    const int count = layer->patch, last = x + pixels - 1;
    const int in_place = count == layer->in_channels ? layer->stride_width * count : 0;
    for (int first = x; first <= last; first += NN_LANES, lanes += nn_group_bytes(layer)) {
        const int8_t *from = nn_patch(layer, in, y, first, scratch);
        for (int lane = 0; lane < NN_LANES; lane++) {
            nn_copy_to_lane(from, count, lanes + lane * NN_VECTOR);
            if (first + lane >= last) continue;
            from = in_place ? from + in_place : nn_patch(layer, in, y, first + lane + 1, scratch);
        }
    }
}

/* Four lanes times the weights of two channels, which `load` leaves in q0 and q1: 16 values of each. */
#define NN_DOT_2X4(load, inputs)                                                                                      \
    __asm__("1: " load                                                                                                \
            "vldrb.8 q2, [%[lane]], #64\n"                                                                            \
            "vmladava.s8 %[a0], q0, q2\n"                                                                             \
            "vldrb.8 q3, [%[lane], #-48]\n"                                                                           \
            "vmladava.s8 %[b0], q1, q2\n"                                                                             \
            "vmladava.s8 %[a1], q0, q3\n"                                                                             \
            "vldrb.8 q2, [%[lane], #-32]\n"                                                                           \
            "vmladava.s8 %[b1], q1, q3\n"                                                                             \
            "vmladava.s8 %[a2], q0, q2\n"                                                                             \
            "vldrb.8 q3, [%[lane], #-16]\n"                                                                           \
            "vmladava.s8 %[b2], q1, q2\n"                                                                             \
            "vmladava.s8 %[a3], q0, q3\n"                                                                             \
            "vmladava.s8 %[b3], q1, q3\n"                                                                             \
            "subs %[blocks], #1\n"                                                                                    \
            "bne 1b"                                                                                                  \
            : [a0] "+Te"(a0), [a1] "+Te"(a1), [a2] "+Te"(a2), [a3] "+Te"(a3), [b0] "+Te"(b0), [b1] "+Te"(b1),         \
              [b2] "+Te"(b2), [b3] "+Te"(b3), [weights] "+r"(weights), [lane] "+r"(lane), [blocks] "+r"(blocks)       \
            : inputs                                                                                                  \
            : "q0", "q1", "q2", "q3", "cc", "memory")
#define NN_LOAD_INT8 "vld20.32 {q0, q1}, [%[weights]]\nvld21.32 {q0, q1}, [%[weights]]!\n"
#define NN_LOAD_INT4 "vldrb.8 q0, [%[weights]], #16\nvand q1, q0, %q[lower]\n"

/* -8 times the sum of the values in each of four lanes: what the second of two channels with packed weights starts with. */
static inline int32x4_t nn_offsets(const int8_t *lanes, int blocks)
{
    int32_t sums[NN_LANES] = {0};
    for (; blocks > 0; blocks--)
        for (int lane = 0; lane < NN_LANES; lane++, lanes += NN_VECTOR)
            sums[lane] = vaddvaq_s8(sums[lane], vld1q_s8(lanes));
    return vmulq_n_s32(vld1q_s32(sums), -8);
}

/* The products of the weights of two channels, a and b, with four lanes, added to their biases. */
NN_SPECIALIZED void nn_dot_2x4(const int8_t *weights, const int8_t *lanes, int blocks, const int32_t *bias,
    int32x4_t offsets, int32x4_t *a, int32x4_t *b, const int bits)
{
    int32_t a0 = bits == 4 ? bias[1] : bias[0], a1 = a0, a2 = a0, a3 = a0, b0 = bias[1], b1 = b0, b2 = b0, b3 = b0;
    const int8_t *lane = lanes;
    if (bits == 4) NN_DOT_2X4(NN_LOAD_INT4, [lower] "w"(vdupq_n_s8(15)));
    else NN_DOT_2X4(NN_LOAD_INT8, );
    *a = nn_vector(a0, a1, a2, a3);
    *b = nn_vector(b0, b1, b2, b3);
    if (bits == 8) return;
    *a = vaddq_n_s32(vshrq_n_s32(vsubq_s32(*a, *b), 4), bias[0]);
    *b = vaddq_s32(*b, offsets);
}

/* Convolves groups of four pixels with the weights of two channels after the other. The outputs of a pixel that is in
 * the lanes again are written again. */
NN_SPECIALIZED void nn_convolve_groups(
    const nn_layer *layer, const int8_t *lanes, int pixels, int8_t *out, nn_kind kind, const int bits)
{
    const int8_t *weights = layer->weights;
    const int channels = layer->out_channels, blocks = nn_blocks(layer), group_bytes = nn_group_bytes(layer);
    uint32x4_t places[NN_GROUPS];
    int32x4_t offsets[NN_GROUPS];
    for (int i = 0; i < NN_GROUPS; i++) {
        offsets[i] = bits == 4 ? nn_offsets(lanes + i * group_bytes, blocks) : vdupq_n_s32(0);
        const uint32x4_t pixel = vidupq_n_u32((uint32_t)(i * NN_LANES), 1), last = vdupq_n_u32((uint32_t)pixels - 1);
        places[i] = vmulq_n_u32(vminq_u32(pixel, last), (uint32_t)channels);
    }
    for (int c = 0; c < channels; c += 2, weights += layer->weights_each * bits / 4) {
        const int place = c * layer->per_channel, next = c + 1 < channels ? place + layer->per_channel : place;
        const int32x4_t multiplier_a = vdupq_n_s32(layer->multiplier[place]);
        const int32x4_t multiplier_b = vdupq_n_s32(layer->multiplier[next]);
        const int32x4_t right_a = vdupq_n_s32(nn_right(layer, place)), right_b = vdupq_n_s32(nn_right(layer, next));
        for (int i = 0; i * NN_LANES < pixels; i++) {
            int32x4_t a, b;
            nn_dot_2x4(weights, lanes + i * group_bytes, blocks, layer->bias + c, offsets[i], &a, &b, bits);
            vstrbq_scatter_offset_s32(out + c, places[i], nn_requantize_4(layer, a, multiplier_a, right_a, kind));
            if (c + 1 == channels) continue;
            vstrbq_scatter_offset_s32(out + c + 1, places[i], nn_requantize_4(layer, b, multiplier_b, right_b, kind));
        }
    }
}

/* Computes row y of a convolution of any kernel. */
NN_SPECIALIZED void nn_convolve_vectors(
    const nn_layer *layer, const nn_rows *in, int y, int8_t *out, int8_t *scratch, nn_kind kind, const int bits)
{
    const int lanes_bytes = NN_GROUPS * nn_group_bytes(layer);
    /* The last vector may be filled in part; the weights that it meets there are of other channels. */
    memset(scratch, 0, (size_t)lanes_bytes);
    for (int x = 0; x < layer->out_width; x += NN_GROUPS * NN_LANES) {
        const int pixels = nn_minimum(NN_GROUPS * NN_LANES, layer->out_width - x);
        nn_fill_groups(layer, in, y, x, pixels, scratch, scratch + lanes_bytes);
        nn_convolve_groups(layer, scratch, pixels, out + x * layer->out_channels, kind, bits);
    }
}

/* ---- Depthwise convolution of 3 x 3 ---------------------------------------------------------------------------- */

#define NN_COLUMN (4 * NN_VECTOR) /* bytes of a column: of 16 channels three rows each, and nothing in a fourth */
#define NN_PIXELS 8               /* outputs from a row of columns */

/* Three rows of a map, and how far it is to the next pixel. */
typedef struct {
    const int8_t *row[3];
    int step[3];
} nn_three_rows;

/* Fills columns with one value. */
static inline void nn_fill_columns(int8_t *column, int count, int value)
{
    for (int8_t *const end = column + count * NN_COLUMN; column < end; column += NN_VECTOR)
        vst1q_s8(column, vdupq_n_s8((int8_t)value));
}

/* Interleaves three rows of up to 16 channels, column by column. */
static void nn_interleave_rows(nn_three_rows window, int count, mve_pred16_t valid, int8_t *column)
{
    const int8_t *row0 = window.row[0], *row1 = window.row[1], *row2 = window.row[2];
    int8x16x4_t values;
    values.val[3] = vdupq_n_s8(0);
    for (; count > 0; count--, column += NN_COLUMN) {
        values.val[0] = vldrbq_z_s8(row0, valid);
        values.val[1] = vldrbq_z_s8(row1, valid);
        values.val[2] = vldrbq_z_s8(row2, valid);
        vst4q_s8(column, values);
        row0 += window.step[0];
        row1 += window.step[1];
        row2 += window.step[2];
    }
}

/* Computes `count` pixels of up to 16 channels from interleaved columns. */
NN_SPECIALIZED void nn_depthwise_16(const nn_layer *layer, int c, const int8_t *columns, const int8_t *kernel,
    int count, int8_t *out, nn_kind kind)
{
    const int channels = layer->out_channels, step = layer->per_channel;
    const uint32_t stride = (uint32_t)layer->stride_width * NN_COLUMN;
    const uint32x4_t each = vidupq_n_u32(0, 1), scales = vmulq_n_u32(each, (uint32_t)step);
    const uint32x4_t places = vmulq_n_u32(each, NN_COLUMN);
    const int32_t *bias = layer->bias + c, *multiplier = layer->multiplier + c * step;
    for (int left = nn_minimum(channels - c, NN_VECTOR); left > 0; left -= 4) {
        const mve_pred16_t valid = vctp32q((uint32_t)left);
        const int32x4_t b = vldrwq_z_s32(bias, valid);
        const int32x4_t m = vldrwq_gather_shifted_offset_z_s32(multiplier, scales, valid);
        const int32x4_t r = NN_SHIFT_BITS && !layer->right
                                ? vsubq_n_s32(vandq_s32(m, vdupq_n_s32(NN_SHIFT_BITS)), 1)
                                : vldrbq_gather_offset_z_s32(layer->right + c * step, scales, valid);
        const uint32x4_t kernel_at = vaddq_n_u32(places, (uint32_t)kernel);
        const int8x16_t w0 = vreinterpretq_s8_s32(vldrwq_gather_base_s32(kernel_at, 0));
        const int8x16_t w1 = vreinterpretq_s8_s32(vldrwq_gather_base_s32(kernel_at, 4));
        const int8x16_t w2 = vreinterpretq_s8_s32(vldrwq_gather_base_s32(kernel_at, 8));
        const int8x16_t w3 = vreinterpretq_s8_s32(vldrwq_gather_base_s32(kernel_at, 12));
        uint32x4_t at = vaddq_n_u32(places, (uint32_t)columns);
        int8_t *to = out;
        for (int x = 0; x < count; x++, to += channels) {
            const int32_t s0 = vmladavq_s8(w0, vreinterpretq_s8_s32(vldrwq_gather_base_s32(at, 0)));
            const int32_t s1 = vmladavq_s8(w1, vreinterpretq_s8_s32(vldrwq_gather_base_s32(at, 4)));
            const int32_t s2 = vmladavq_s8(w2, vreinterpretq_s8_s32(vldrwq_gather_base_s32(at, 8)));
            const int32_t s3 = vmladavq_s8(w3, vreinterpretq_s8_s32(vldrwq_gather_base_s32(at, 12)));
            const int32x4_t sums = vaddq_s32(nn_vector(s0, s1, s2, s3), b);
            vstrbq_p_s32(to, nn_requantize_4(layer, sums, m, r, kind), valid);
            at = vaddq_n_u32(at, stride);
        }
        bias += 4;
        multiplier += 4 * step;
        c += 4;
        kernel += 16;
        columns += 16;
        out += 4;
    }
}

/* Computes row y of a depthwise convolution of 3 x 3 with a stride of 1 or 2. */
NN_SPECIALIZED void nn_depthwise_vectors(const nn_layer *layer, const nn_rows *in, int y, int8_t *out, nn_kind kind)
{
    int8_t columns[(NN_PIXELS + 3) * NN_COLUMN] __attribute__((aligned(4)));
    int8_t kernel[4 * NN_COLUMN] __attribute__((aligned(4))); /* the fourth column is 0 */
    int8_t outside[NN_VECTOR];
    const int channels = layer->out_channels, width = layer->out_width, stride = layer->stride_width;
    const int top = y * layer->stride_height - layer->pad_top, most = NN_PIXELS / stride;
    nn_three_rows map;
    memset(outside, layer->in_zero, sizeof outside);
    nn_fill_columns(kernel + 3 * NN_COLUMN, 1, 0);
    for (int ky = 0; ky < 3; ky++) {
        const int inside = top + ky >= 0 && top + ky < layer->in_height;
        map.row[ky] = inside ? nn_row(in, top + ky) : outside;
        map.step[ky] = inside ? channels : 0;
    }
    for (int c = 0; c < channels; c += NN_VECTOR) {
        const int8_t *const weights = layer->weights + c;
        const nn_three_rows weight_rows = {
            {weights, weights + 3 * channels, weights + 6 * channels}, {channels, channels, channels}};
        const mve_pred16_t valid = vctp8q((uint32_t)(channels - c));
        nn_interleave_rows(weight_rows, 3, valid, kernel);
        for (int x = 0; x < width; x += most) {
            const int pixels = nn_minimum(most, width - x), left = x * stride - layer->pad_left;
            const int count = (pixels - 1) * stride + 3, before = left < 0 ? nn_minimum(-left, count) : 0;
            const int after = nn_minimum(count, layer->in_width - left), first = left + before;
            nn_three_rows window = map;
            for (int ky = 0; ky < 3; ky++) window.row[ky] += window.step[ky] ? c + first * channels : 0;
            nn_fill_columns(columns, before, layer->in_zero);
            nn_interleave_rows(window, after - before, valid, columns + before * NN_COLUMN);
            nn_fill_columns(columns + after * NN_COLUMN, count - after, layer->in_zero);
            nn_depthwise_16(layer, c, columns, kernel, pixels, out + x * channels + c, kind);
        }
    }
}

#endif
