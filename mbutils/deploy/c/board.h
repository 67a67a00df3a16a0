/* How main.c measures. On a computer: not at all. */
#ifndef BOARD_H
#define BOARD_H

#if defined(__arm__)
/* Begins to count instructions, and marks the free stack. */
void board_start(void);

/* Writes the instructions since, and the most bytes of stack used since. */
void board_stop(unsigned long *instructions, unsigned long *stack_bytes);
#else
static inline void board_start(void) {}
static inline void board_stop(unsigned long *instructions, unsigned long *stack_bytes)
{
    (void)instructions;
    (void)stack_bytes;
}
#endif

#endif
