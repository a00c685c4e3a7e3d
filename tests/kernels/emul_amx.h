// The AMX-INT8 intrinsics of runtime_c/infc_simd_amx.h and kv/q16_amx.h in plain C, from Intel's description of each, so that kernels of
// tiles are tested on machines with AVX-512 and without AMX. One set of tiles a thread, as the processor has it.
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

// sums += a b: (rows, k) bytes, signed or not, times (k / 4, columns, 4) signed bytes; every row past the last is zero then
__attribute__((noinline, unused)) static void emul_tile_dot(int sums, int a, int b, int is_signed)
{
    emul_tile *y = emul_tile_of(sums);
    const emul_tile *x = emul_tile_of(a), *w = emul_tile_of(b);
    const int rows = emul_tiles.rows[sums], columns = emul_tiles.row_bytes[sums] / 4, groups = emul_tiles.row_bytes[a] / 4;
    if (emul_tiles.rows[a] != rows || emul_tiles.row_bytes[b] != 4 * columns || emul_tiles.rows[b] != groups) abort();  // #UD
    for (int m = 0; m < 16; m++) {
        for (int n = 0; n < 16; n++) {
            int32_t sum = 0;
            if (m < rows && n < columns) {
                memcpy(&sum, y->row[m] + 4 * n, 4);
                for (int k = 0; k < groups; k++)
                    for (int i = 0; i < 4; i++) {
                        const uint8_t q = x->row[m][4 * k + i];
                        sum += (is_signed ? (int8_t)q : q) * (int8_t)w->row[k][4 * n + i];
                    }
            }
            memcpy(y->row[m] + 4 * n, &sum, 4);
        }
    }
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
