/* random.c: counter-based random numbers, Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel
 * Random Numbers: As Easy as 1, 2, 3, SC 2011).
 *
 * A block of four 32-bit words is a pure function of a 128-bit counter and a 64-bit key. There is
 * no state: any thread may compute any block, in any order, and gets the same bits. The counter and
 * the key are made so that two different (seed, draw, key, block) never meet:
 *
 *   key      [0..1]  seed
 *   counter  [0]     low 32 bits of the block
 *            [1]     bits 32..47 of the block, bits 32..47 of the draw above them
 *            [2]     low 32 bits of the draw
 *            [3]     the key: which node or parameter
 *
 * Blocks and draws are counted to 2^48, which is more than a tensor can have elements and a model
 * can make steps. Element i of a stream is word i % 4 of block i / 4. */
#include "op.h"

#include <math.h>

enum { ROUNDS = 10 };
static const uint32_t MULTIPLY_0 = 0xD2511F53, MULTIPLY_1 = 0xCD9E8D57;
static const uint32_t WEYL_0 = 0x9E3779B9, WEYL_1 = 0xBB67AE85; /* golden ratio, sqrt(3) - 1 */

void random_block(const struct random_key *k, uint64_t block, uint32_t out[4])
{
    uint32_t key0 = (uint32_t)k->seed, key1 = (uint32_t)(k->seed >> 32);
    uint32_t c0 = (uint32_t)block, c2 = (uint32_t)k->draw, c3 = k->key;
    uint32_t c1 = (uint32_t)(block >> 32 & 0xFFFF) | (uint32_t)(k->draw >> 32 & 0xFFFF) << 16;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t product0 = (uint64_t)MULTIPLY_0 * c0, product1 = (uint64_t)MULTIPLY_1 * c2;
        c0 = (uint32_t)(product1 >> 32) ^ c1 ^ key0;
        c1 = (uint32_t)product1;
        c2 = (uint32_t)(product0 >> 32) ^ c3 ^ key1;
        c3 = (uint32_t)product0;
        key0 += WEYL_0;
        key1 += WEYL_1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

double random_uniform(const struct random_key *k, uint64_t i)
{
    uint32_t word[4];
    random_block(k, i / 4, word);
    return word[i % 4] * 0x1p-32;
}

/* Box and Muller: elements 2j and 2j + 1 are the two coordinates of one point, whose radius and
 * angle come from words of one block. The radius' uniform lies in (0, 1], so its log is finite. */
double random_normal(const struct random_key *k, uint64_t i)
{
    static const double TWO_PI = 6.283185307179586476925;
    uint32_t word[4];
    random_block(k, i / 4, word);
    int pair = (int)(i % 4) & ~1;
    double radius = sqrt(-2 * log((word[pair] + 1.0) * 0x1p-32));
    double angle = TWO_PI * (word[pair + 1] * 0x1p-32);
    return radius * (i % 2 ? sin(angle) : cos(angle));
}
