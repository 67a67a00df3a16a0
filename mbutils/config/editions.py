"""The editions of the published values, and the tool of each."""

# Of the STM32 model zoo's pages, the oldest first: the first two numbers of its version, and the tool of the values on
# STM32H7. An edition that repeats a value of an older one stands for it.
EDITIONS = {
    "1.0": "STM32Cube.AI 7.3.0",
    "2.0": "STM32Cube.AI 8.1.0",
    "2.1": "STM32Cube.AI 9.1.0",
    "3.0": "STM32Cube.AI 10.0.0",
    "3.2": "STM32Cube.AI 10.2.0",
    "4.0": "ST Edge AI Core 3.0.0",
    "4.1": "ST Edge AI Core 4.0.0",
}
FIRST_EDITION, *_, NEWEST_EDITION = EDITIONS
