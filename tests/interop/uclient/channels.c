/*
 * Preloaded into turnutils_uclient. It draws channel numbers as 0x4000 + random % 0x4000, the range of
 * RFC 5766; RFC 8656 section 12 leaves 0x4000 to 0x4fff, and a server must refuse the others (section
 * 12.2). Here each 16 bits that it draws are less than 0x1000, so that all its channels are good ones.
 */
#include <stdint.h>
#include <sys/random.h>

static int draw(unsigned char *bytes, int length)
{
    if (getrandom(bytes, length, 0) != length)
        return 0;
    for (int at = 1; at < length; at += 2)
        bytes[at] &= 0x0f; /* the high byte of 16 bits, little endian */
    return 1;
}

int RAND_bytes(unsigned char *bytes, int length)
{
    return draw(bytes, length);
}

long random(void)
{
    uint32_t drawn = 0;
    draw((unsigned char *)&drawn, sizeof drawn);
    return drawn & 0x7fffffff;
}
