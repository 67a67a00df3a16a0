/* Runs the test vectors, prints the result of each, and PASS if every score and every output before the softmax equals
 * that of the TensorFlow Lite reference kernels. With -DNETWORK_TIMES also the time of each stage. */
#include <stdio.h>
#include <string.h>

#include "board.h"
#include "labels.h"
#include "network.h"
#include "vectors.h"

#if defined(__GNUC__)
__attribute__((aligned(NETWORK_ARENA_ALIGNMENT)))
#endif
static uint8_t arena[NETWORK_ARENA_BYTES];

static void print_time(const char *name, uint32_t ticks)
{
    const unsigned long microseconds = (unsigned long)(ticks * 1000000ull / network_clock_hz());
    printf("%s %lu ticks, %lu.%03lu ms\n", name, (unsigned long)ticks, microseconds / 1000, microseconds % 1000);
}

int main(void)
{
    int failed = 0;
    uint32_t ticks = 0;
    unsigned long stack = 0;
    for (int i = 0; i < VECTORS; i++) {
        float scores[NETWORK_CLASSES];
        uint8_t *const image = arena + NETWORK_IMAGE_OFFSET;
        memcpy(image, vector_images[i], NETWORK_IMAGE_BYTES);
        board_mark_stack();
        ticks = network_clock();
        const int best = network_run(image, scores, arena);
        ticks = network_clock() - ticks;
        stack = board_stack_bytes();
        const int wrong = best != vector_classes[i] ||
                          memcmp(arena + NETWORK_LOGITS_OFFSET, vector_logits[i], NETWORK_CLASSES) ||
                          memcmp(scores, vector_scores[i], sizeof scores);
        failed += wrong;
        printf("image %d: ", i);
        if (best < 0) printf("unknown");
        else printf("%s, score %d of 256", labels[best], (int)(scores[best] * 256.0f));
        puts(wrong ? ": WRONG" : "");
    }
#ifdef NETWORK_TIMES
    for (int i = 0; i < NETWORK_STAGES; i++)
        print_time(network_stage_names[i], network_times[i + 1] - network_times[i]);
#endif
    print_time("inference", ticks);
    if (stack) printf("stack %lu bytes\n", stack);
    puts(failed ? "FAIL" : "PASS");
    return failed != 0;
}
