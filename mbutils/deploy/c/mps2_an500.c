/* Start-up of the Cortex-M7 board mps2-an500 as QEMU emulates it, with semihosting. With -icount shift=0 its time
 * advances by 1 ns for each instruction: these are instructions, not cycles of a real core. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "board.h"

#define SYSTICK_CONTROL (*(volatile uint32_t *)0xe000e010)
#define SYSTICK_RELOAD (*(volatile uint32_t *)0xe000e014)
#define SYSTICK_VALUE (*(volatile uint32_t *)0xe000e018)
#define COPROCESSOR_ACCESS (*(volatile uint32_t *)0xe000ed88)
#define SYSTICK_PERIOD 0x1000000ul
#define NANOSECONDS_EACH_TICK 40 /* 25 MHz */
#define UNUSED_STACK 0xdeadbeefu

extern uint32_t data_start[], data_end[], data_load[], bss_start[], bss_end[], stack_limit[], stack_top[];
void initialise_monitor_handles(void);
int main(void);

static uint32_t *marked_from;
static volatile uint32_t wrapped;

static void count_wrap(void) { wrapped++; }

static void stop(void)
{
    exit(2);
}

void reset(void)
{
    COPROCESSOR_ACCESS |= 0xfu << 20;
    __asm volatile("dsb\n isb");
    memcpy(data_start, data_load, (size_t)((uint8_t *)data_end - (uint8_t *)data_start));
    memset(bss_start, 0, (size_t)((uint8_t *)bss_end - (uint8_t *)bss_start));
    initialise_monitor_handles();
    exit(main());
}

/* Without a C library that starts and ends by itself. */
void _init(void) {}
void _fini(void) {}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top, (void *)reset, (void *)stop, (void *)stop, (void *)stop, (void *)stop, (void *)stop,
    [11] = (void *)stop, [14] = (void *)stop, [15] = (void *)count_wrap,
};

void board_start(void)
{
    marked_from = (uint32_t *)__builtin_frame_address(0) - 16;
    for (volatile uint32_t *word = stack_limit; word < marked_from; word++) *word = UNUSED_STACK;
    wrapped = 0;
    SYSTICK_CONTROL = 0;
    SYSTICK_RELOAD = SYSTICK_PERIOD - 1;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = 7;
}

void board_stop(unsigned long *instructions, unsigned long *stack_bytes)
{
    const uint32_t ticks = wrapped * SYSTICK_PERIOD + (SYSTICK_PERIOD - 1 - SYSTICK_VALUE);
    SYSTICK_CONTROL = 0;
    const uint32_t *word = stack_limit;
    while (word < marked_from && *word == UNUSED_STACK) word++;
    *instructions = (unsigned long)ticks * NANOSECONDS_EACH_TICK;
    *stack_bytes = (unsigned long)((uint8_t *)__builtin_frame_address(0) - (const uint8_t *)word);
}
