/*
 * Preloaded into turnutils_uclient -Z. It asks for its second family by attribute 0x8032, the number of
 * a draft; RFC 8656 section 18 has ADDITIONAL-ADDRESS-FAMILY as 0x8000, and a server must ignore 0x8032
 * (RFC 8489 section 6.3). Here the number is put right in each message that is about to be signed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

enum { HEADER = 20, DRAFT = 0x8032, ADDITIONAL_ADDRESS_FAMILY = 0x8000 };

typedef unsigned char *Hmac(const void *, const void *, int, const unsigned char *, size_t,
                            unsigned char *, unsigned int *);

unsigned char *HMAC(const void *hash, const void *key, int key_length, const unsigned char *message,
                    size_t length, unsigned char *mac, unsigned int *mac_length)
{
    unsigned char *bytes = (unsigned char *)message;
    for (size_t at = HEADER; at + 4 <= length;) {
        size_t value = bytes[at + 2] << 8 | bytes[at + 3];
        if ((bytes[at] << 8 | bytes[at + 1]) == DRAFT) {
            bytes[at] = ADDITIONAL_ADDRESS_FAMILY >> 8;
            bytes[at + 1] = ADDITIONAL_ADDRESS_FAMILY & 0xff;
        }
        at += 4 + (value + 3) / 4 * 4;
    }
    Hmac *real = (Hmac *)dlsym(RTLD_NEXT, "HMAC");
    return real(hash, key, key_length, message, length, mac, mac_length);
}
