/* The board's side of `mb check`: a computer sends images over the port, and gets the outputs and times of each. The
 * README describes the frames. Compile this file and network.c with -DNETWORK_TIMES for the time of each stage, and
 * with -DCHECK_MAIN if there is no other main. */
#include <string.h>

#include "board.h"
#include "check.h"
#include "network.h"

#define CHUNK 256 /* bytes that are read at a time */

#ifdef NETWORK_TIMES
#define STAGES NETWORK_STAGES
#else
#define STAGES 0
#endif

/* The headers of the two requests: MB, a letter, and the bytes of the payload. */
static const uint8_t hello[7] = {'M', 'B', 'h'};
static const uint8_t run[7] = {'M', 'B', 'r', NETWORK_IMAGE_BYTES & 255, NETWORK_IMAGE_BYTES >> 8 & 255,
                               NETWORK_IMAGE_BYTES >> 16 & 255, NETWORK_IMAGE_BYTES >> 24 & 255};

static uint32_t crc;

/* The CRC-32 of zlib, without a table. */
static void add_to_crc(const uint8_t *bytes, uint32_t count)
{
    crc = ~crc;
    while (count--) {
        crc ^= *bytes++;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1u)));
    }
    crc = ~crc;
}

static int read_all(uint8_t *bytes, uint32_t count)
{
    while (count) {
        const uint32_t part = count < CHUNK ? count : CHUNK;
        if (!board_read(bytes, (int)part)) return 0;
        bytes += part;
        count -= part;
    }
    return 1;
}

static void put(const void *bytes, uint32_t count)
{
    add_to_crc(bytes, count);
    board_write(bytes, (int)count);
}

static void put_number(uint32_t number) { put(&number, sizeof number); }

static void begin_answer(char kind, uint32_t bytes)
{
    board_write((const uint8_t *)"MB", 2);
    crc = 0;
    put(&kind, 1);
    put_number(bytes);
}

static void end_answer(void)
{
    const uint32_t sum = crc;
    board_write((const uint8_t *)&sum, sizeof sum);
}

/* Waits for the header of a request; anything else on the line is skipped. */
static void find_header(uint8_t *header)
{
    memset(header, 0, sizeof hello);
    do {
        memmove(header, header + 1, sizeof hello - 1);
        while (!board_read(header + sizeof hello - 1, 1)) {}
    } while (memcmp(header, hello, sizeof hello) && memcmp(header, run, sizeof run));
}

/* Waits for a request, and returns its kind, 0 if it is damaged. Its payload is in `image`, its checksum in `crc`. */
static char read_request(uint8_t *image)
{
    uint8_t header[sizeof hello];
    uint32_t sum;
    find_header(header);
    const uint32_t bytes = header[2] == run[2] ? NETWORK_IMAGE_BYTES : 0;
    if (!read_all(image, bytes) || !board_read((uint8_t *)&sum, sizeof sum)) return 0;
    crc = 0;
    add_to_crc(header + 2, sizeof header - 2);
    add_to_crc(image, bytes);
    return crc == sum ? (char)header[2] : 0;
}

static void answer_hello(void)
{
    begin_answer('H', 16 + 5 * 4);
    put(NETWORK_MODEL_ID, 16);
    put_number(NETWORK_IMAGE_BYTES);
    put_number(NETWORK_CLASSES);
    put_number(STAGES);
    put_number(network_clock_hz());
    put_number(NETWORK_ARENA_BYTES);
    end_answer();
}

static void answer_run(uint8_t *arena)
{
    float scores[NETWORK_CLASSES];
    const uint32_t request = crc;
    const uint32_t start = network_clock();
    const int best = network_run(arena + NETWORK_IMAGE_OFFSET, scores, arena);
    const uint32_t ticks = network_clock() - start;
    begin_answer('R', 8 + sizeof scores + NETWORK_CLASSES + 4 + 4 * STAGES);
    put_number(request);
    put_number((uint32_t)best);
    put(scores, sizeof scores);
    put(arena + NETWORK_LOGITS_OFFSET, NETWORK_CLASSES);
    put_number(ticks);
#ifdef NETWORK_TIMES
    for (int i = 0; i < STAGES; i++) put_number(network_times[i + 1] - network_times[i]);
#endif
    end_answer();
}

void check(uint8_t *arena)
{
    for (;;) {
        const char request = read_request(arena + NETWORK_IMAGE_OFFSET);
        if (request == hello[2]) {
            answer_hello();
        } else if (request == run[2]) {
            answer_run(arena);
        } else {
            begin_answer('A', 0); /* again, please */
            end_answer();
        }
    }
}

#ifdef CHECK_MAIN
#if defined(__GNUC__)
__attribute__((aligned(NETWORK_ARENA_ALIGNMENT)))
#endif
static uint8_t arena[NETWORK_ARENA_BYTES];

int main(void) { check(arena); }
#endif
