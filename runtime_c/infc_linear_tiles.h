// infc_linear_tiles.h: many rows on AMX tiles, for the format that infc_linear_q8.h is including it for:
//
//   linear_F_q8_tiles(w, n_panels, K, x, M, y, scratch)     x in tiles of sixteen rows
//
// One tile product is 16 rows of activations x 16 rows of weights x the 32 or 16 k of one scale: exact sums, to which the same updates
// apply as everywhere. They take longer than the product, so the product of part u + 2 and the store of part u + 1 run between those of u.
// No include guard: this is a template.

// acc += part u of sixteen rows, whose sums are in sums[t]; meanwhile the product of part `ahead` is made in tile t, and the sums of
// part u + 1 leave tile 1 - t. q, s, d, ds: the rows' blocks, sixteen of each per block. w: unpacked parts. `lines` cache lines of weights
// are fetched from `next`. Where a block has two parts, t is the half.
INFC_INLINE void INFC_F(tile_step)(v16f acc[16], int t, int32_t sums[2][256], const uint8_t *w, const int8_t *q, const int16_t *s,
                                   const float *d, const float *ds, int u, int ahead, const uint8_t *next, int lines)
{
    const float *scales = (const float *)(const void *)(w + (size_t)u * INFC_F(PART_BYTES) + 64 * INFC_F(GROUPS));
    const v16f dw = v16f_load(scales), mw = INFC_F(HAS_MIN) ? v16f_load(scales + 16) : dw;
    const size_t block = 16 * (size_t)(u / INFC_F(HALVES));
    float half[16] __attribute__((aligned(64)));
    d += block;
    ds += block;
    if (INFC_F(HAS_MIN) && INFC_F(HALVES) == 2) {
        v16f_store(half, v16f_mul(v16f_load(d), v16f_from_i32(v16i_half_sums(s + 2 * block, t))));
        ds = half;
    }
    INFC_UNROLL for (int part = 0; part < 4; part++) {
        INFC_UNROLL for (int i = 4 * part; i < 4 * part + 4; i++) {
            acc[i] = v16f_fma(v16f_from_small_i32(sums[t] + 16 * i), v16f_mul(dw, v16f_set1(d[i])), acc[i]);
            if (INFC_F(HAS_MIN)) acc[i] = v16f_fma(mw, v16f_set1(ds[i]), acc[i]);
        }
        INFC_TILE_ORDER;
        if (part == 0) infc_tile_activations(t, q + (INFC_F(HALVES) == 1 ? 512 * (size_t)ahead : 512 * (size_t)(ahead / 2) + 16 * t));
        if (part == 1) infc_tile_weights(w + (size_t)ahead * INFC_F(PART_BYTES));
        if (part == 2) infc_tile_multiply(t);
        if (part == 1) {
            for (int i = 0; i < lines; i++) infc_prefetch_weights(next + (size_t)(64 * (u * lines + i)));
        }
        if (part == 3) infc_tile_sums(1 - t, sums[1 - t]);
    }
}

// n unpacked parts of one panel, the first of which is of block b0 of x, times rows m0..m0+15, of which `rows` exist. y: (16, 16).
// Meanwhile n * lines cache lines are fetched from `next`.
INFC_INLINE void INFC_F(tile_rows)(const uint8_t *w, int n, const infc_q8 *x, int K, int b0, int m0, int rows, const uint8_t *next,
                                   int lines, float *y)
{
    const size_t first = (size_t)m0 * (size_t)(K / 32) + 16 * (size_t)b0;
    const int8_t *q = x->q + 32 * first;
    const int16_t *s = x->s + 2 * first;
    const float *d = x->d + first, *ds = x->ds + first;
    int32_t sums[2][256] __attribute__((aligned(64)));
    v16f acc[16];
    INFC_UNROLL for (int i = 0; i < 16; i++) acc[i] = b0 && i < rows ? v16f_load(y + 16 * i) : v16f_zero();
    INFC_TILE_ORDER;
    for (int t = 0; t < 2; t++) {  // past the last part the first is multiplied again, and nobody looks
        infc_tile_activations(t, q + (INFC_F(HALVES) == 2 ? 16 * t : t < n ? 512 * t : 0));
        infc_tile_weights(w + (t < n ? t * INFC_F(PART_BYTES) : 0));
        infc_tile_multiply(t);
    }
    infc_tile_sums(0, sums[0]);
    for (int u = 0; u < n; u += 2) {
        INFC_F(tile_step)(acc, 0, sums, w, q, s, d, ds, u, u + 2 < n ? u + 2 : 0, next, lines);
        if (u + 1 == n) break;
        INFC_F(tile_step)(acc, 1, sums, w, q, s, d, ds, u + 1, u + 3 < n ? u + 3 : 0, next, lines);
    }
    INFC_UNROLL for (int i = 0; i < 16; i++) {
        if (i < rows) v16f_store(y + 16 * i, acc[i]);
    }
}

INFC_INLINE void INFC_LINEAR(_q8_tiles)(const uint8_t *w, int n_panels, int K, const infc_q8 *x, int M, float *y, void *scratch)
{
    // Chunks of nearly equal length that fit the scratch; y holds the accumulators from one chunk to the next.
    const int nb = K / 32, most = INFC_GEMM_SCRATCH_BYTES / INFC_F(UNPACKED_BYTES), chunks = (nb + most - 1) / most;
    const int part_lines = (INFC_F(SUPER_BYTES) + 64 * INFC_F(SUPER) * INFC_F(HALVES) - 1) / (64 * INFC_F(SUPER) * INFC_F(HALVES));
    const int tiles = (M + 15) / 16, lines = (part_lines + tiles - 1) / tiles;
    const int ahead = 16 * ((part_lines + lines - 1) / lines);  // rows in which all lines are fetched
    infc_tiles_configure(infc_linear_tiles + INFC_F(HALVES) - 1);
    for (int p = 0; p < n_panels; p++) {
        const uint8_t *panel = w + (size_t)p * INFC_F(panel_bytes)(K);
        float *yp = y + (size_t)p * 16 * M;
        for (int c = 0; c < chunks; c++) {
            const int b0 = nb * c / chunks, b1 = nb * (c + 1) / chunks, n = (b1 - b0) * INFC_F(HALVES);
            INFC_F(unpack)(panel, b0, b1, 1, (uint8_t *)scratch);
            // While these parts are multiplied, as many of what is read next come closer: later blocks, the next panel or the next work item.
            const uint8_t *next = INFC_F(block)(panel, b1);
            for (int m = 0; m < M; m += 16, next += 64 * (size_t)(lines * n))
                INFC_F(tile_rows)((const uint8_t *)scratch, n, x, K, b0, m, M - m < 16 ? M - m : 16, next, m < ahead ? lines : 0, yp + (size_t)m * 16);
        }
    }
}
