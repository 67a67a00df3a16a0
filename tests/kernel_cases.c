/* Runs every case of kernel_cases.h in an arena of exactly its size, and prints which outputs are wrong. */
#include <stdio.h>
#include <string.h>

#include "kernel_cases.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, size)
#define ASAN_UNPOISON_MEMORY_REGION(start, size)
#endif

enum { GUARD = 64, UNTOUCHED = 0xa5 };

static const kernel_case *const cases[] = {CASES};
static uint8_t memory[MOST_ARENA_BYTES + 2 * GUARD] __attribute__((aligned(8)));

static int is_untouched(const uint8_t *from, const uint8_t *to)
{
    while (from < to && *from == UNTOUCHED) from++;
    return from == to;
}

static int is_right(const kernel_case *one)
{
    float scores[MOST_CLASSES];
    uint8_t *const arena = memory + GUARD, *const end = arena + one->arena_bytes;
    uint8_t *const beyond = memory + sizeof memory;
    memset(memory, UNTOUCHED, sizeof memory);
    memcpy(arena + one->image_offset, one->image, (size_t)one->image_bytes);
    ASAN_POISON_MEMORY_REGION(memory, GUARD);
    ASAN_POISON_MEMORY_REGION(end, beyond - end);
    one->run(arena + one->image_offset, scores, arena);
    ASAN_UNPOISON_MEMORY_REGION(memory, sizeof memory);
    return !memcmp(arena + one->output_offset, one->output, (size_t)one->output_bytes) && is_untouched(memory, arena) &&
           is_untouched(end, beyond);
}

int main(void)
{
    int failed = 0;
    for (int i = 0; i < (int)(sizeof cases / sizeof *cases); i++)
        if (!is_right(cases[i])) {
            printf("WRONG %s\n", cases[i]->name);
            failed++;
        }
    puts(failed ? "FAIL" : "PASS");
    return failed != 0;
}
