// The AMX-INT8 intrinsics of runtime_c/infc_simd_amx.h and kv/q16_amx.h in plain C, from Intel's description of each, so that kernels of
// tiles, and whole programs, are tested on machines with AVX-512 and without AMX. One set of tiles a thread, as the processor has it.
#ifndef INFC_EMUL_AMX_H
#define INFC_EMUL_AMX_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct { uint8_t row[16][64]; } emul_tile;
static __thread struct { uint8_t configured, rows[8]; uint16_t row_bytes[8]; emul_tile tile[8]; } emul_tiles;

// A tile that the configuration does not have is an error of the kernel, which the processor answers with #UD.
static inline emul_tile *emul_tile_of(int t)
{
    if (!emul_tiles.configured || t > 7 || emul_tiles.rows[t] == 0) abort();
    return &emul_tiles.tile[t];
}

__attribute__((noinline, unused)) static void emul_tile_loadconfig(const void *config)
{
    const uint8_t *c = (const uint8_t *)config;
    memset(&emul_tiles, 0, sizeof emul_tiles);
    emul_tiles.configured = c[0] == 1;
    for (int t = 0; t < 8; t++) {
        memcpy(&emul_tiles.row_bytes[t], c + 16 + 2 * t, 2);
        emul_tiles.rows[t] = c[48 + t];
        if (emul_tiles.rows[t] > 16 || emul_tiles.row_bytes[t] > 64) abort();
    }
}

__attribute__((unused)) static void emul_tile_release(void) { memset(&emul_tiles, 0, sizeof emul_tiles); }
__attribute__((noinline, unused)) static void emul_tile_zero(int t) { memset(emul_tile_of(t), 0, sizeof(emul_tile)); }

__attribute__((noinline, unused)) static void emul_tile_loadd(int t, const void *p, size_t stride)
{
    emul_tile *x = emul_tile_of(t);
    memset(x, 0, sizeof *x);
    for (int r = 0; r < emul_tiles.rows[t]; r++) memcpy(x->row[r], (const char *)p + r * stride, emul_tiles.row_bytes[t]);
}

__attribute__((noinline, unused)) static void emul_tile_stored(int t, void *p, size_t stride)
{
    const emul_tile *x = emul_tile_of(t);
    for (int r = 0; r < emul_tiles.rows[t]; r++) memcpy((char *)p + r * stride, x->row[r], emul_tiles.row_bytes[t]);
}

// Products so far by the groups of four of their inner index, for tests that ask whether tiles were used: linear layers have 8 or 4, attention 16.
__attribute__((visibility("default"))) _Atomic uint64_t emul_tile_products[17];

// sums += a b: (rows, k) bytes, signed or not, times (k / 4, columns, 4) signed bytes; every row past the last is zero then
__attribute__((noinline, unused)) static void emul_tile_dot(int sums, int a, int b, int is_signed)
{
    typedef int32_t lanes __attribute__((vector_size(64)));  // of one row, in plain C: without them a prompt takes minutes
    emul_tile *y = emul_tile_of(sums);
    const emul_tile *x = emul_tile_of(a), *w = emul_tile_of(b);
    const int rows = emul_tiles.rows[sums], columns = emul_tiles.row_bytes[sums] / 4, groups = emul_tiles.row_bytes[a] / 4;
    if (emul_tiles.rows[a] != rows || emul_tiles.row_bytes[b] != 4 * columns || emul_tiles.rows[b] != groups) abort();  // #UD
    emul_tile_products[groups]++;
    lanes weights[64];  // byte i of every column's group k at 4 k + i
    for (int k = 0; k < groups; k++) {
        lanes four;
        memcpy(&four, w->row[k], 64);
        for (int i = 0; i < 4; i++) weights[4 * k + i] = four << (24 - 8 * i) >> 24;
    }
    for (int m = 0; m < rows; m++) {
        lanes before, sum = {0}, after;
        memcpy(&before, y->row[m], 64);
        if (is_signed)
            for (int k = 0; k < 4 * groups; k++) sum += weights[k] * (int8_t)x->row[m][k];
        else
            for (int k = 0; k < 4 * groups; k++) sum += weights[k] * x->row[m][k];
        after = before + sum;
        memset(y->row[m], 0, 64);
        memcpy(y->row[m], &after, 4 * (size_t)columns);
    }
    for (int m = rows; m < 16; m++) memset(y->row[m], 0, 64);
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#undef _tile_dpbusd
#define _tile_loadconfig(config) emul_tile_loadconfig(config)
#define _tile_release() emul_tile_release()
#define _tile_zero(t) emul_tile_zero(t)
#define _tile_loadd(t, p, stride) emul_tile_loadd(t, p, (size_t)(stride))
#define _tile_stored(t, p, stride) emul_tile_stored(t, p, (size_t)(stride))
#define _tile_dpbssd(y, a, b) emul_tile_dot(y, a, b, 1)
#define _tile_dpbusd(y, a, b) emul_tile_dot(y, a, b, 0)
#endif
