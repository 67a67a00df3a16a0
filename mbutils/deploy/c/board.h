/* What a board gives: a clock, and a port to a computer. mps.c is an example, host.c is a computer itself. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

/* The ticks of a clock, which may wrap around, and how many of them make a second. */
uint32_t network_clock(void);
uint32_t network_clock_hz(void);

/* Reads `count` bytes, at most 256. Returns 0 if they do not come within about a second. */
int board_read(uint8_t *bytes, int count);

/* Writes `count` bytes. */
void board_write(const uint8_t *bytes, int count);

/* Marks the free stack, and returns the most bytes used since; 0 where that is not known. Only main.c asks. */
void board_mark_stack(void);
unsigned long board_stack_bytes(void);

#endif
