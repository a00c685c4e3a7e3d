// infc_scan.h: the short way through a pre-tokenizer's automaton for ASCII text, by the table of compiler/tokenizer/scan.py.
//
// The first two bytes of a word name a kind of run; the word ends at the first byte that is not of that kind. The search for that
// byte has a scalar, an AVX2 and an AVX-512 twin with the same result for every input; none reads a byte outside the text. This is
// baseline code: the wide twins carry their own target attribute and may run only where infc_cpu_features allows them.
#ifndef INFC_SCAN_H
#define INFC_SCAN_H
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define INFC_SCAN_WIDE 1
#else
#define INFC_SCAN_WIDE 0
#endif

// The pair that most words begin with is of kind 0, with two bytes before the run. A hint: it changes no answer.
enum { INFC_SCAN_KINDS = 8, INFC_SCAN_LIKELY = 0 << 2 | 2 };
typedef enum infc_scan_isa { INFC_SCAN_SCALAR, INFC_SCAN_AVX2, INFC_SCAN_AVX512 } infc_scan_isa;

typedef struct infc_scan {
    const uint8_t *pair_class;     // (256) 0 for bytes outside ASCII
    const uint8_t *member;         // (256) bit k: a byte of kind k
    const uint8_t *ends;           // (256) bit k: a byte that ends a run of kind k where it stands
    const uint8_t *ends_one_back;  // (256) bit k: a byte that ends it one byte before
    const uint8_t *nibbles;        // (8, 16) [k][b & 15] has bit b >> 4 for the ASCII bytes b of kind k
    const uint8_t *pairs;          // (n_pairs, n_pairs) kind << 2 | bytes before the run; 0: ask the automaton
    uint32_t n_pairs;
} infc_scan;

// Points s into the table and checks every entry that could lead astray; 0 or INFC_EFILE.
int infc_scan_open(infc_scan *s, const uint8_t *table, size_t size);

// The three twins: the first position in [at, end] that is `end` or holds a byte that is not of kind k.
static inline size_t infc_scan_run_scalar(const infc_scan *s, uint32_t k, const uint8_t *text, size_t at, size_t end) {
    while (at < end && s->member[text[at]] >> k & 1) at++;
    return at;
}

#if INFC_SCAN_WIDE
// A byte is of kind k if its high nibble's bit is set in the entry of its low nibble; bytes from 0x80 on have no bit. Bit i of the
// result: text[i] is of another kind.
__attribute__((target("avx2"))) static inline uint32_t infc_scan_outside_32(const infc_scan *s, uint32_t k, const uint8_t *text) {
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i bits = _mm256_broadcastsi128_si256(_mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0));
    const __m256i kind = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(s->nibbles + (size_t)k * 16)));
    const __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)text);
    const __m256i row = _mm256_shuffle_epi8(kind, _mm256_and_si256(b, low));
    const __m256i bit = _mm256_shuffle_epi8(bits, _mm256_and_si256(_mm256_srli_epi16(b, 4), low));
    return (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_and_si256(row, bit), _mm256_setzero_si256()));
}

// The same of up to 64 bytes, those that `in` has bits for: others are not read, and their bits are 1.
__attribute__((target("avx512f,avx512bw"))) static inline uint64_t infc_scan_outside_64(const infc_scan *s, uint32_t k, const uint8_t *text,
                                                                                        uint64_t in) {
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i bits = _mm512_broadcast_i32x4(_mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0));
    const __m512i kind = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)(s->nibbles + (size_t)k * 16)));
    const __m512i b = _mm512_maskz_loadu_epi8(in, text);
    const __m512i row = _mm512_shuffle_epi8(kind, _mm512_and_si512(b, low));
    const __m512i bit = _mm512_shuffle_epi8(bits, _mm512_and_si512(_mm512_srli_epi16(b, 4), low));
    return _mm512_testn_epi8_mask(row, bit) | ~in;
}

__attribute__((target("avx2"))) static inline size_t infc_scan_run_avx2(const infc_scan *s, uint32_t k, const uint8_t *text, size_t at,
                                                                        size_t end) {
    for (; end - at >= 32; at += 32) {
        const uint32_t outside = infc_scan_outside_32(s, k, text + at);
        if (outside) return at + (uint32_t)__builtin_ctz(outside);
    }
    return infc_scan_run_scalar(s, k, text, at, end);
}

// Most words end within 32 bytes, and a load of 64 would straddle two cache lines: those come for what is longer, and for the end.
__attribute__((target("avx512f,avx512bw"))) static inline size_t infc_scan_run_avx512(const infc_scan *s, uint32_t k, const uint8_t *text,
                                                                                      size_t at, size_t end) {
    if (end - at >= 32) {
        const uint32_t outside = infc_scan_outside_32(s, k, text + at);
        if (outside) return at + (uint32_t)__builtin_ctz(outside);
        at += 32;
    }
    for (; end - at >= 64; at += 64) {
        const uint64_t outside = infc_scan_outside_64(s, k, text + at, ~UINT64_C(0));
        if (outside) return at + (uint32_t)__builtin_ctzll(outside);
    }
    return at + (uint32_t)__builtin_ctzll(infc_scan_outside_64(s, k, text + at, (UINT64_C(1) << (end - at)) - 1));
}
#endif

// isa is a constant at every call: the branch is gone once this is inlined into a function of that ISA.
__attribute__((always_inline)) static inline size_t infc_scan_run(infc_scan_isa isa, const infc_scan *s, uint32_t k, const uint8_t *text,
                                                                  size_t at, size_t end) {
#if INFC_SCAN_WIDE
    if (isa == INFC_SCAN_AVX512) return infc_scan_run_avx512(s, k, text, at, end);
    if (isa == INFC_SCAN_AVX2) return infc_scan_run_avx2(s, k, text, at, end);
#else
    (void)isa;
#endif
    return infc_scan_run_scalar(s, k, text, at, end);
}

// The end of the word that begins at `at`; `at` itself where only the automaton can tell.
__attribute__((always_inline)) static inline size_t infc_scan_word(infc_scan_isa isa, const infc_scan *s, const uint8_t *text, size_t at,
                                                                   size_t end) {
    if (end - at < 2) return at;
    const uint32_t pair = s->pairs[s->pair_class[text[at]] * s->n_pairs + s->pair_class[text[at + 1]]];
    if (!pair) return at;
    const uint32_t k = pair >> 2;
    // The frequent pair by a branch and with constants: predicted, it spares the search the wait for what the table says.
    size_t stop;
    if (__builtin_expect(pair == INFC_SCAN_LIKELY, 1)) stop = infc_scan_run(isa, s, 0, text, at + 2, end);
    else stop = infc_scan_run(isa, s, k, text, at + (pair & 3), end);
    if (stop == end) return at;  // the automaton knows what the end of the text means
    // Branches, not selects: they are well predicted, and the next word then need not wait for these loads.
    if (__builtin_expect(s->ends[text[stop]] >> k & 1, 1)) return stop;
    return s->ends_one_back[text[stop]] >> k & 1 ? stop - 1 : at;
}
#endif
