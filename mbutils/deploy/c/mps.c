/* Arm's boards MPS2 (Cortex-M0+, M3, M4, M7) and MPS3 (Cortex-M55) as QEMU emulates them: start-up, semihosting, a
 * clock, and a serial port. With -icount shift=0 their time advances by 1 ns for each instruction: a tick of the clock
 * is an instruction, not a cycle. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "board.h"

#define AT(address) (*(volatile uint32_t *)(address))
#define COPROCESSOR_ACCESS AT(0xe000ed88)
#if defined(__ARM_FEATURE_MVE)
#define COUNTER_CONTROL AT(0x58100000)
#define COUNTER_VALUE AT(0x58000000)
#define UART 0x59303000
#else
#define TIMER_CONTROL AT(0x40000000)
#define TIMER_VALUE AT(0x40000004)
#define TIMER_RELOAD AT(0x40000008)
#define UART 0x40004000
#endif
#define UART_DATA AT(UART)
#define UART_STATE AT(UART + 4)
#define UART_CONTROL AT(UART + 8)
#define UART_BAUD_DIVIDER AT(UART + 16)
#define UNUSED_STACK 0xdeadbeefu

extern uint32_t data_start[], data_end[], data_load[], bss_start[], bss_end[], stack_limit[], stack_top[];
void initialise_monitor_handles(void);
int main(void);

static uint32_t *marked_from;

#if defined(__ARM_FEATURE_MVE)
static void start_clock(void) { COUNTER_CONTROL = 1; }

uint32_t network_clock(void) { return (uint32_t)(COUNTER_VALUE * 125ull / 4); } /* 32 MHz */
#else
static void start_clock(void)
{
    TIMER_RELOAD = TIMER_VALUE = UINT32_MAX;
    TIMER_CONTROL = 1;
}

uint32_t network_clock(void) { return (UINT32_MAX - TIMER_VALUE) * 40; } /* 25 MHz */
#endif

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
    start_clock();
    UART_BAUD_DIVIDER = 217; /* 115200 */
    UART_CONTROL = 3;
    initialise_monitor_handles();
    exit(main());
}

/* Without a C library that starts and ends by itself. */
void _init(void) {}
void _fini(void) {}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top, (void *)reset, (void *)stop, (void *)stop, (void *)stop, (void *)stop, (void *)stop,
    [11] = (void *)stop, [14] = (void *)stop, [15] = (void *)stop,
};

uint32_t network_clock_hz(void) { return 1000000000; }

int board_read(uint8_t *bytes, int count)
{
    const uint32_t start = network_clock();
    while (count) {
        if (UART_STATE & 2) {
            *bytes++ = (uint8_t)UART_DATA;
            count--;
        } else if (network_clock() - start > network_clock_hz()) {
            return 0;
        }
    }
    return 1;
}

void board_write(const uint8_t *bytes, int count)
{
    for (; count; count--) {
        while (UART_STATE & 1) {}
        UART_DATA = *bytes++;
    }
}

void board_mark_stack(void)
{
    marked_from = (uint32_t *)__builtin_frame_address(0) - 16;
    for (volatile uint32_t *word = stack_limit; word < marked_from; word++) *word = UNUSED_STACK;
}

unsigned long board_stack_bytes(void)
{
    const uint32_t *word = stack_limit;
    while (word < marked_from && *word == UNUSED_STACK) word++;
    return (unsigned long)((uint8_t *)__builtin_frame_address(0) - (const uint8_t *)word);
}
