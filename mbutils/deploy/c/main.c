/* Runs the test vectors, prints the result of each, and PASS if every score and every output before the softmax equals
 * that of the TensorFlow Lite reference kernels. */
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

int main(void)
{
    int failed = 0;
    unsigned long instructions = 0, stack = 0;
    for (int i = 0; i < VECTORS; i++) {
        float scores[NETWORK_CLASSES];
        uint8_t *const image = arena + NETWORK_IMAGE_OFFSET;
        memcpy(image, vector_images[i], NETWORK_IMAGE_BYTES);
        board_start();
        const int best = network_run(image, scores, arena);
        board_stop(&instructions, &stack);
        const int wrong = best != vector_classes[i] ||
                          memcmp(arena + NETWORK_LOGITS_OFFSET, vector_logits[i], NETWORK_CLASSES) ||
                          memcmp(scores, vector_scores[i], sizeof scores);
        failed += wrong;
        printf("image %d: ", i);
        if (best < 0) printf("unknown");
        else printf("%s, score %d of 256", labels[best], (int)(scores[best] * 256.0f));
        puts(wrong ? ": WRONG" : "");
    }
    if (instructions) printf("instructions %lu\n", instructions);
    if (stack) printf("stack bytes %lu\n", stack);
    puts(failed ? "FAIL" : "PASS");
    return failed != 0;
}
