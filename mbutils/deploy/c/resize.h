/* The preprocessing of preprocess.h, on the device: colour and size of a frame. As in TensorFlow, pixel centres lie at
 * half integers. The bytes of nearest are the same as there, those of the others differ by at most 1.
 *
 * Include preprocess.h, which names the interpolation that the model was trained with. */
#ifndef RESIZE_H
#define RESIZE_H

#include <stdint.h>

/* The pixels of a frame that one pixel of the image is made of, along one side: `count` from `first`. */
typedef struct {
    int first, count;
    float start, scale;
} resize_span;

static inline int resize_floor(float value)
{
    const int whole = (int)value;
    return (float)whole > value ? whole - 1 : whole;
}

static inline int resize_clip(int value, int size) { return value < 0 ? 0 : value >= size ? size - 1 : value; }

static inline resize_span resize_span_of(int place, int size_in, int size_out)
{
    resize_span span;
    int last;
    span.scale = (float)size_in / (float)size_out;
#if PREPROCESS_INTERPOLATION == PREPROCESS_AREA
    span.start = (float)place * span.scale;
    span.first = resize_clip(resize_floor(span.start), size_in);
    last = resize_clip(-resize_floor(-((float)place + 1.0f) * span.scale) - 1, size_in);
#elif PREPROCESS_INTERPOLATION == PREPROCESS_NEAREST
    span.start = ((float)place + 0.5f) * span.scale;
    span.first = last = resize_clip(resize_floor(span.start), size_in);
#elif PREPROCESS_INTERPOLATION == PREPROCESS_BILINEAR
    span.start = ((float)place + 0.5f) * span.scale - 0.5f;
    span.scale = 1.0f;
    span.first = resize_clip(resize_floor(span.start), size_in);
    last = resize_clip(resize_floor(span.start) + 1, size_in);
#else /* PREPROCESS_BILINEAR_ANTIALIAS: a triangle, widened where the frame is larger than the image */
    span.start = ((float)place + 0.5f) * span.scale - 0.5f;
    if (span.scale < 1.0f) span.scale = 1.0f;
    span.first = resize_clip(-resize_floor(-(span.start - span.scale)), size_in);
    last = resize_clip(resize_floor(span.start + span.scale), size_in);
#endif
    span.count = last - span.first + 1;
    return span;
}

/* How much a pixel of the span counts, up to a factor that all have in common. */
static inline float resize_weight(const resize_span *span, int place)
{
#if PREPROCESS_INTERPOLATION == PREPROCESS_AREA
    const float from = (float)place < span->start ? span->start : (float)place;
    const float end = span->start + span->scale, to = (float)place + 1.0f > end ? end : (float)place + 1.0f;
    return to > from ? to - from : 0.0f;
#elif PREPROCESS_INTERPOLATION == PREPROCESS_NEAREST
    (void)span;
    (void)place;
    return 1.0f;
#else
    float distance = ((float)place - span->start) / span->scale;
    if (span->count == 1) return 1.0f;
    if (distance < 0.0f) distance = -distance;
    return distance < 1.0f ? 1.0f - distance : 0.0f;
#endif
}

static inline float resize_value(const uint8_t *pixel, int channels, int channel)
{
    if (channels == PREPROCESS_CHANNELS) return pixel[channel];
    if (channels == 1) return pixel[0]; /* a gray frame for a colour model */
    /* A colour frame for a gray model: ITU-R 601 luma as Pillow computes it. */
    return (float)((pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16);
}

/* Makes an image for network_run out of a frame: uint8, [height][width][channels], 3 channels (RGB) or 1 (gray). */
static inline void preprocess(const uint8_t *frame, int height, int width, int channels, uint8_t *image)
{
    for (int y = 0; y < PREPROCESS_SIZE; y++) {
        const resize_span rows = resize_span_of(y, height, PREPROCESS_SIZE);
        for (int x = 0; x < PREPROCESS_SIZE; x++) {
            const resize_span columns = resize_span_of(x, width, PREPROCESS_SIZE);
            for (int channel = 0; channel < PREPROCESS_CHANNELS; channel++) {
                float sum = 0.0f, total = 0.0f;
                for (int row = rows.first; row < rows.first + rows.count; row++) {
                    const float weight_of_row = resize_weight(&rows, row);
                    for (int column = columns.first; column < columns.first + columns.count; column++) {
                        const float weight = weight_of_row * resize_weight(&columns, column);
                        sum += weight * resize_value(frame + (row * width + column) * channels, channels, channel);
                        total += weight;
                    }
                }
                *image++ = (uint8_t)(sum / total + 0.5f);
            }
        }
    }
}

#endif
