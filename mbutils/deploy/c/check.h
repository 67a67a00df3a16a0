/* Tests the network on a board, see the README. */
#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>

/* Answers `mb check` over the port of board.h, for ever. The arena is that of network_run. */
void check(uint8_t *arena);

#endif
