// infc_linear_tiles.h: many rows on AMX tiles, for the format that infc_linear_q8.h is including it for:
//
//   linear_F_q8_tiles(w, n_panels, K, x, M, y, scratch)     x in tiles of sixteen rows
//
// One tile product is 16 rows of activations x 16 rows of weights x one block of 32 k: exact sums, to which the same updates apply as
// everywhere. They take longer than the product, so the product of block b + 2 and the store of block b + 1 run between those of b.
// No include guard: this is a template.

// n blocks as stored -> signed int8 groups, zero point taken off, and f32 scales; INFC_F(UNPACKED_BYTES) each
INFC_INLINE void INFC_F(unpack_tiles)(const uint8_t *w, int n, uint8_t *out)
{
    for (int b = 0; b < n; b++, w += INFC_F(BLOCK_BYTES), out += INFC_F(UNPACKED_BYTES)) {
        INFC_UNROLL for (int g = 0; g < 8; g++) {
            const v64b v = INFC_F(group)(w, g);
            v64b_store(out + 64 * g, INFC_F(ZERO) ? v64b_sub(v, INFC_F(ZERO)) : v);
        }
        v16f_store((float *)(void *)(out + 512), v16f_from_f16(w + INFC_F(SCALES)));
        if (INFC_F(HAS_MIN)) v16f_store((float *)(void *)(out + 576), v16f_from_f16(w + INFC_F(SCALES) + 32));
    }
}

// acc += block b of sixteen rows, whose sums are in sums[t]; meanwhile the product of block `ahead` is made in tile t, and the sums of
// block b + 1 leave tile 1 - t. q, d, ds: the rows' blocks, sixteen of each per block. w: unpacked blocks. `lines` cache lines of weights
// are fetched from `next`.
INFC_INLINE void INFC_F(tile_step)(v16f acc[16], int t, int32_t sums[2][256], const uint8_t *w, const int8_t *q, const float *d,
                                   const float *ds, int b, int ahead, const uint8_t *next, int lines)
{
    const float *scales = (const float *)(const void *)(w + (size_t)b * INFC_F(UNPACKED_BYTES) + 512);
    const v16f dw = v16f_load(scales), mw = INFC_F(HAS_MIN) ? v16f_load(scales + 16) : dw;
    d += 16 * (size_t)b;
    ds += 16 * (size_t)b;
    INFC_UNROLL for (int part = 0; part < 4; part++) {
        INFC_UNROLL for (int i = 4 * part; i < 4 * part + 4; i++) {
            acc[i] = v16f_fma(v16f_from_small_i32(sums[t] + 16 * i), v16f_mul(dw, v16f_set1(d[i])), acc[i]);
            if (INFC_F(HAS_MIN)) acc[i] = v16f_fma(mw, v16f_set1(ds[i]), acc[i]);
        }
        INFC_TILE_ORDER;
        if (part == 0) infc_tile_activations(t, q + 512 * (size_t)ahead);
        if (part == 1) infc_tile_weights(w + (size_t)ahead * INFC_F(UNPACKED_BYTES));
        if (part == 2) infc_tile_multiply(t);
        if (part == 1) {
            for (int i = 0; i < lines; i++) infc_prefetch_weights(next + (size_t)(64 * (b * lines + i)));
        }
        if (part == 3) infc_tile_sums(1 - t, sums[1 - t]);
    }
}

// n unpacked blocks of one panel, the first of which is block b0 of x, times rows m0..m0+15, of which `rows` exist. y: (16, 16). Meanwhile
// n * lines cache lines are fetched from `next`.
INFC_INLINE void INFC_F(tile_rows)(const uint8_t *w, int n, const infc_q8 *x, int K, int b0, int m0, int rows, const uint8_t *next,
                                   int lines, float *y)
{
    const size_t first = (size_t)m0 * (size_t)(K / 32) + 16 * (size_t)b0;
    const int8_t *q = x->q + 32 * first;
    const float *d = x->d + first, *ds = x->ds + first;
    int32_t sums[2][256] __attribute__((aligned(64)));
    v16f acc[16];
    INFC_UNROLL for (int i = 0; i < 16; i++) acc[i] = b0 && i < rows ? v16f_load(y + 16 * i) : v16f_zero();
    INFC_TILE_ORDER;
    for (int t = 0; t < 2; t++) {  // past the last block the first is multiplied again, and nobody looks
        infc_tile_activations(t, q + (t < n ? 512 * t : 0));
        infc_tile_weights(w + (t < n ? t * INFC_F(UNPACKED_BYTES) : 0));
        infc_tile_multiply(t);
    }
    infc_tile_sums(0, sums[0]);
    for (int b = 0; b < n; b += 2) {
        INFC_F(tile_step)(acc, 0, sums, w, q, d, ds, b, b + 2 < n ? b + 2 : 0, next, lines);
        if (b + 1 == n) break;
        INFC_F(tile_step)(acc, 1, sums, w, q, d, ds, b + 1, b + 3 < n ? b + 3 : 0, next, lines);
    }
    INFC_UNROLL for (int i = 0; i < 16; i++) {
        if (i < rows) v16f_store(y + 16 * i, acc[i]);
    }
}

INFC_INLINE void INFC_LINEAR(_q8_tiles)(const uint8_t *w, int n_panels, int K, const infc_q8 *x, int M, float *y, void *scratch)
{
    // Chunks of nearly equal length that fit the scratch; y holds the accumulators from one chunk to the next.
    const int nb = K / 32, most = INFC_GEMM_SCRATCH_BYTES / INFC_F(UNPACKED_BYTES), chunks = (nb + most - 1) / most;
    const int block_lines = (INFC_F(BLOCK_BYTES) + 63) / 64, tiles = (M + 15) / 16, lines = (block_lines + tiles - 1) / tiles;
    const int ahead = 16 * ((block_lines + lines - 1) / lines);  // rows in which all lines are fetched
    infc_tiles_configure(&infc_linear_tiles);
    for (int p = 0; p < n_panels; p++) {
        const uint8_t *panel = w + (size_t)p * nb * INFC_F(BLOCK_BYTES);
        float *yp = y + (size_t)p * 16 * M;
        for (int c = 0; c < chunks; c++) {
            const int b0 = nb * c / chunks, b1 = nb * (c + 1) / chunks;
            INFC_F(unpack_tiles)(panel + (size_t)b0 * INFC_F(BLOCK_BYTES), b1 - b0, (uint8_t *)scratch);
            // While these blocks are multiplied, as many of what is read next come closer: later blocks, the next panel or the next work item.
            const uint8_t *next = panel + (size_t)b1 * INFC_F(BLOCK_BYTES);
            for (int m = 0; m < M; m += 16, next += 64 * (size_t)(lines * (b1 - b0)))
                INFC_F(tile_rows)((const uint8_t *)scratch, b1 - b0, x, K, b0, m, M - m < 16 ? M - m : 16, next, m < ahead ? lines : 0, yp + (size_t)m * 16);
        }
    }
}
