import numpy as np
import pyarrow as pa

from mmnet.serving import draws

SALT = "00112233445566778899aabbccddeeff"
IDS = pa.chunked_array([[f"item {number}" for number in range(20_000)]])


def drawn(period=7, salt=SALT, ids=IDS):
    return draws.of_items(ids, np.full(len(ids), period), salt)


def rotated(value, bits):
    return (value << bits | value >> (64 - bits)) & (2**64 - 1)


def siphash(text, keys):
    """SipHash-2-4 as its paper defines it, section 2; keys of 64 bits."""
    (a, b), mask = keys, 2**64 - 1
    v = [a ^ 0x736F6D6570736575, b ^ 0x646F72616E646F6D]
    v += [a ^ 0x6C7967656E657261, b ^ 0x7465646279746573]

    def rounds(number):
        for _ in range(number):
            v[0], v[2] = (v[0] + v[1]) & mask, (v[2] + v[3]) & mask
            v[1], v[3] = rotated(v[1], 13) ^ v[0], rotated(v[3], 16) ^ v[2]
            v[0] = rotated(v[0], 32)
            v[2], v[0] = (v[2] + v[1]) & mask, (v[0] + v[3]) & mask
            v[1], v[3] = rotated(v[1], 17) ^ v[2], rotated(v[3], 21) ^ v[0]
            v[2] = rotated(v[2], 32)

    padded = text + bytes(7 - len(text) % 8) + bytes([len(text) % 256])
    for start in range(0, len(padded), 8):
        word = int.from_bytes(padded[start : start + 8], "little")
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def test_the_draw_is_the_siphash_of_period_and_item():
    ids = pa.chunked_array([["a", "猫", "an id that is longer than eight bytes"]])
    keys = (0x0011223344556677, 0x8899AABBCCDDEEFF & (2**63 - 1))
    wanted = [siphash(f"-3:{one}".encode(), keys) % 2**53 / 2**53 for one in ids.to_pylist()]
    assert drawn(-3, ids=ids).tolist() == wanted


def test_draws_are_uniform_and_unrelated_between_periods_and_salts():
    first, later, other = drawn(), drawn(8), drawn(salt=SALT[::-1])
    for found in (first, later, other):
        assert ((found >= 0) & (found < 1)).all()
        # The Kolmogorov-Smirnov distance of 20,000 uniform draws is below this in 999 of 1,000.
        rising = np.sort(found)
        assert np.abs(rising - (np.arange(20_000) + 0.5) / 20_000).max() < 1.95 / 20_000**0.5
    # Three standard errors of a correlation of 20,000 independent pairs.
    for one in (later, other):
        assert abs(np.corrcoef(first, one)[0, 1]) < 0.022
