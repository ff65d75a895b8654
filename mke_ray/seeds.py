"""One seed out of several numbers; knows no framework, so that small processes start at once."""

GOLDEN = -7046029254386353131  # 2**64 / golden ratio, as a signed 64-bit integer
MULTIPLY_1 = -49064778989728563
MULTIPLY_2 = -4265267296055464877
_LOW_64 = (1 << 64) - 1


def mix_integers(*numbers: int) -> int:
    """Return a non-negative 63-bit seed that depends on every number and on their order."""
    state = 0
    for number in numbers:
        state = (state * GOLDEN + number + 1) & _LOW_64
        state = ((state ^ (state >> 33)) * MULTIPLY_1) & _LOW_64
        state = ((state ^ (state >> 33)) * MULTIPLY_2) & _LOW_64
        state ^= state >> 33
    return state >> 1
