/* This computer as a board: the port is its standard input and output. So is an emulated RISC-V core, where a tick of
 * the clock is an instruction. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "board.h"

#if defined(__PICOLIBC__)
uint32_t network_clock(void)
{
    uint32_t count;
    __asm__ volatile("rdinstret %0" : "=r"(count));
    return count;
}

uint32_t network_clock_hz(void) { return 1000000000; }
#else
uint32_t network_clock(void) { return (uint32_t)clock(); }

uint32_t network_clock_hz(void) { return CLOCKS_PER_SEC; }
#endif

int board_read(uint8_t *bytes, int count)
{
    if (fread(bytes, 1, (size_t)count, stdin) < (size_t)count) exit(0); /* no one is there any more */
    return 1;
}

void board_write(const uint8_t *bytes, int count)
{
    fwrite(bytes, 1, (size_t)count, stdout);
    fflush(stdout);
}

void board_mark_stack(void) {}

unsigned long board_stack_bytes(void) { return 0; }
