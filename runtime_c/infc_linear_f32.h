// infc_linear_f32.h: the loops of an unquantized format with f32 activations. Included once per format by quant/F.h, which defines
// INFC_FORMAT and, with F for its name:
//   F_BYTES            of one k of 16 rows        v16f F_load(p)   those 16 weights as f32 (exact)
// One f32 accumulator per output element, k ascending: acc = fma(w[k], x[k], acc).
// No include guard: this is a template.

// k0..k1 of NP panels and rows m0..m0+MT-1, added to y (panel i at y + i * ldy) or, at k0 = 0, to zero.
// w: k0 of the first panel, the next panel `stride` bytes on; as stored, or f32 if unpacked.
INFC_INLINE void INFC_F(tile)(const uint8_t *w, size_t stride, int unpacked, const float *x, int K, int k0, int k1, int m0, int NP, int MT,
                              float *y, size_t ldy)
{
    const size_t step = unpacked ? 64 : INFC_F(BYTES);
    x += (size_t)m0 * K;
    v16f acc[16];
    INFC_UNROLL for (int i = 0; i < NP; i++) {
        INFC_UNROLL for (int m = 0; m < MT; m++) acc[i * 4 + m] = k0 ? v16f_load(y + i * ldy + 16 * (m0 + m)) : v16f_zero();
    }
    // One row asks for weights fast enough by itself, four panels at once; later rows find them in cache.
    const int prefetch = !unpacked && m0 == 0 && MT > 1 && infc_drops_prefetches();
    for (int k = k0; k < k1; k++, w += step) {
        if (prefetch && k % (64 / INFC_F(BYTES)) == 0) infc_prefetch_thrice(w);
        INFC_UNROLL for (int i = 0; i < NP; i++) {
            const uint8_t *p = w + i * stride;
            const v16f v = unpacked ? v16f_load((const float *)(const void *)p) : INFC_F(load)(p);
            INFC_UNROLL for (int m = 0; m < MT; m++)
                acc[i * 4 + m] = v16f_fma(v, v16f_set1(x[(size_t)m * K + k]), acc[i * 4 + m]);
        }
    }
    INFC_UNROLL for (int i = 0; i < NP; i++) {
        INFC_UNROLL for (int m = 0; m < MT; m++) v16f_store(y + i * ldy + 16 * (m0 + m), acc[i * 4 + m]);
    }
}

INFC_INLINE void INFC_F(rows)(const uint8_t *w, size_t stride, int unpacked, const float *x, int K, int k0, int k1, int M, int NP,
                              float *y, size_t ldy)
{
    int m = 0;
    for (; m + INFC_TILE_ROWS <= M; m += INFC_TILE_ROWS) INFC_F(tile)(w, stride, unpacked, x, K, k0, k1, m, NP, INFC_TILE_ROWS, y, ldy);
    if (INFC_TILE_ROWS == 1) return;
    switch (M - m) {
    case 3: INFC_F(tile)(w, stride, unpacked, x, K, k0, k1, m, NP, 3, y, ldy); break;
    case 2: INFC_F(tile)(w, stride, unpacked, x, K, k0, k1, m, NP, 2, y, ldy); break;
    case 1: INFC_F(tile)(w, stride, unpacked, x, K, k0, k1, m, NP, 1, y, ldy); break;
    default: break;
    }
}

// n_panels * K * F_BYTES read; 16 * n_panels * K MACs
INFC_INLINE void INFC_LINEAR(_f32_gemv)(const uint8_t *w, int n_panels, int K, const float *x, float *y)
{
    const size_t panel = (size_t)K * INFC_F(BYTES);
    int p = 0;
    // each accumulator waits for its last fma, so several panels at once
    for (; p + INFC_F32_PANELS <= n_panels; p += INFC_F32_PANELS)
        INFC_F(tile)(w + p * panel, panel, 0, x, K, 0, K, 0, INFC_F32_PANELS, 1, y + 16 * (size_t)p, 16);
    for (; INFC_F32_PANELS > 2 && p + 2 <= n_panels; p += 2)
        INFC_F(tile)(w + p * panel, panel, 0, x, K, 0, K, 0, 2, 1, y + 16 * (size_t)p, 16);
    for (; INFC_F32_PANELS > 1 && p < n_panels; p++)
        INFC_F(tile)(w + p * panel, panel, 0, x, K, 0, K, 0, 1, 1, y + 16 * (size_t)p, 16);
}

INFC_INLINE void INFC_LINEAR(_f32_small)(const uint8_t *w, int n_panels, int K, const float *x, int M, float *y)
{
    const size_t panel = (size_t)K * INFC_F(BYTES), ldy = 16 * (size_t)M;
    for (int p = 0; p < n_panels; p++) INFC_F(rows)(w + p * panel, 0, 0, x, K, 0, K, M, 1, y + p * ldy, ldy);
}

INFC_INLINE void INFC_F(gemm_panels)(const uint8_t *w, int K, const float *x, int M, int NP, float *y, float *scratch)
{
    const int most = INFC_GEMM_CHUNK_BYTES / 64 / NP, chunks = (K + most - 1) / most;
    const size_t panel = (size_t)K * INFC_F(BYTES);
    for (int c = 0; c < chunks; c++) {
        const int k0 = (int)((int64_t)K * c / chunks), k1 = (int)((int64_t)K * (c + 1) / chunks), n = k1 - k0;
        for (int i = 0; i < NP; i++)
            for (int k = 0; k < n; k++)
                v16f_store(scratch + 16 * ((size_t)i * n + k), INFC_F(load)(w + i * panel + (size_t)(k0 + k) * INFC_F(BYTES)));
        INFC_F(rows)((const uint8_t *)scratch, 64 * (size_t)n, 1, x, K, k0, k1, M, NP, y, 16 * (size_t)M);
    }
}

INFC_INLINE void INFC_LINEAR(_f32_gemm)(const uint8_t *w, int n_panels, int K, const float *x, int M, float *y, void *scratch)
{
    const size_t panel = (size_t)K * INFC_F(BYTES), ldy = 16 * (size_t)M;
    int p = 0;
    for (; p + INFC_GEMM_PANELS <= n_panels; p += INFC_GEMM_PANELS)
        INFC_F(gemm_panels)(w + p * panel, K, x, M, INFC_GEMM_PANELS, y + p * ldy, (float *)scratch);
    if (INFC_GEMM_PANELS > 1)
        for (; p < n_panels; p++) INFC_F(gemm_panels)(w + p * panel, K, x, M, 1, y + p * ldy, (float *)scratch);
}

// out: (K) floats, exact
INFC_INLINE void INFC_EMBED(const uint8_t *w, int K, int token, float *out)
{
    const uint8_t *p = w + (size_t)(token / 16) * K * INFC_F(BYTES);
    float lanes[16];
    for (int k = 0; k < K; k++) {
        v16f_store(lanes, INFC_F(load)(p + (size_t)k * INFC_F(BYTES)));
        out[k] = lanes[token % 16];
    }
}

#undef INFC_FORMAT
