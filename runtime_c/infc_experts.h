// infc_experts.h: mixture of experts (Shazeer et al., 2017): which experts a row takes, the rows of each expert, and its tiles' epilogues.
//
// Every thread chooses and groups for itself: the result is small and the same everywhere, so it costs less than a barrier. The rows of an
// expert are ascending, and what the experts of one row make is added to its residual stream in ascending order of experts: neither rows
// beside it nor threads nor chunks change a sum.
#ifndef INFC_EXPERTS_H
#define INFC_EXPERTS_H
#include "infc_epilogue.h"

enum { INFC_MOST_EXPERTS = 1024 };
enum { INFC_GATHER_ROWS = 128 };  // rows of an expert that are gathered at once: a multiple of 16
enum { INFC_EXPERT_READ = 4 };    // what reading an expert's weights costs, in rows that are multiplied with them

typedef struct infc_expert_choice {
    int32_t expert;
    float weight;
} infc_expert_choice;

typedef struct infc_member {
    int32_t row;
    float weight;
} infc_member;

// An expert that some row takes. Its rows are members first.. of infc_groups; they are laid out in tiles where they are many.
typedef struct infc_group {
    int32_t expert, first, rows, many;
    int64_t before;  // cost of one unit of all earlier groups
} infc_group;

typedef struct infc_groups {
    infc_group *group;    // (n), ascending experts
    infc_member *member;  // rows of a group ascending
    int32_t n;
    int64_t cost;  // of one unit of all groups
} infc_groups;

// logits: (n) in vectors of 16, ld floats apart; bias: (n), whole vectors, or NULL. The n_used largest logits, the lower expert first where
// they are equal, as choices in ascending order of experts: weight = exp(l - max l) / sum, over all experts or, `renormalise`, over the
// chosen ones: sixteen lanes (expert, or place among the chosen, mod 16) and the fixed fold. n_used <= n <= INFC_MOST_EXPERTS
INFC_HEAVY void experts_choose(const float *logits, size_t ld, const float *bias, int n, int n_used, int renormalise, infc_expert_choice *out)
{
    float left[INFC_MOST_EXPERTS] __attribute__((aligned(64))), p[INFC_MOST_EXPERTS] __attribute__((aligned(64)));
    uint8_t taken[INFC_MOST_EXPERTS] = {0};
    const v16f none = v16f_set1(-INFINITY);
    v16f most = none, all = v16f_zero(), chosen = v16f_zero();
    for (int i = 0; i < n; i += 16) {
        v16f l = v16f_load(logits + (size_t)(i / 16) * ld);
        if (bias != NULL) l = v16f_add(l, v16f_load(bias + i));
        l = v16f_keep(l, n - i, none);
        v16f_store(left + i, l);
        most = v16f_max(most, l);
    }
    const v16f top = v16f_set1(v16f_fold_max(most));
    for (int i = 0; i < n; i += 16) {
        const v16f e = v16f_keep(v16f_exp(v16f_sub(v16f_load(left + i), top)), n - i, v16f_zero());
        v16f_store(p + i, e);
        all = v16f_add(all, e);
    }
    for (int k = 0; k < n_used; k++) {
        v16f best = none;
        for (int i = 0; i < n; i += 16) best = v16f_max(best, v16f_load(left + i));
        const float value = v16f_fold_max(best);
        int e = 0;
        while (e < n && (taken[e] || left[e] != value)) e++;
        if (e == n)  // not a number: any choice is as good, as long as there is one
            for (e = 0; taken[e]; e++) {}
        taken[e] = 1;
        left[e] = -INFINITY;
    }
    float lanes[16] = {0};
    for (int e = 0, k = 0; k < n_used; e++) {
        if (!taken[e]) continue;
        out[k] = (infc_expert_choice){e, p[e]};
        lanes[k % 16] = p[e];
        if (++k % 16 == 0 || k == n_used) {
            chosen = v16f_add(chosen, v16f_load(lanes));
            memset(lanes, 0, sizeof lanes);
        }
    }
    const float sum = v16f_fold_add(renormalise ? chosen : all);
    for (int k = 0; k < n_used; k++) out[k].weight /= sum;
}

// 1 / (1 + exp(-logit)): the weight of a layer that all rows take
INFC_INLINE float experts_shared_weight(float logit)
{
    float lanes[16];
    v16f_store(lanes, v16f_sigmoid(v16f_set1(logit)));
    return lanes[0];
}

// Members that n_rows rows need at most: each choice once, and groups of many rows in whole tiles.
static inline size_t infc_most_members(size_t n_rows, size_t n_used, size_t n_experts)
{
    const size_t n = n_rows * n_used, tiled = n / 8 < n_experts ? n / 8 : n_experts;  // many: more than small_max >= 7
    return n + 15 * tiled;
}

// choice: (n_rows, n_used). Groups of more than small_max (>= 7) rows come first in the members, so that their tiles are aligned.
static inline void experts_group(const infc_expert_choice *choice, int n_rows, int n_used, int n_experts, int small_max, infc_groups *g)
{
    int32_t count[INFC_MOST_EXPERTS], next[INFC_MOST_EXPERTS], at = 0;
    memset(count, 0, (size_t)n_experts * sizeof *count);
    for (int i = 0; i < n_rows * n_used; i++) count[choice[i].expert]++;
    for (int e = 0; e < n_experts; e++) {
        if (count[e] <= small_max) continue;
        next[e] = at;
        at += (count[e] + 15) / 16 * 16;
    }
    g->n = 0;
    g->cost = 0;
    for (int e = 0; e < n_experts; e++) {
        if (count[e] == 0) continue;
        const int many = count[e] > small_max;
        if (!many) {
            next[e] = at;
            at += count[e];
        }
        g->group[g->n++] = (infc_group){e, next[e], count[e], many, g->cost};
        g->cost += count[e] + INFC_EXPERT_READ;
    }
    for (int m = 0; m < n_rows; m++) {
        for (int k = 0; k < n_used; k++, choice++) g->member[next[choice->expert]++] = (infc_member){m, choice->weight};
    }
}

// The first unit of a group, of `units`, that belongs to thread t or a later one of T: the groups' units in their order are dealt out by cost.
static inline int experts_share(const infc_groups *g, const infc_group *e, int units, int t, int T)
{
    const int64_t unit = e->rows + INFC_EXPERT_READ, from = g->cost * units * t / T - e->before * units;
    if (from <= 0) return 0;
    const int64_t n = (from + unit - 1) / unit;
    return n < units ? (int)n : units;
}

// Rows first.. of a q8 value of blocks that lie one after the other: a group's, in whole tiles or row-major.
static inline infc_q8 infc_q8_from(const infc_q8 *a, int K, int first, int tiled)
{
    const size_t block = (size_t)first * (size_t)(K / 32);
    void *const sums = (uint8_t *)a->s + 4 * block;  // four bytes a block
    return (infc_q8){a->q + 32 * block, a->d + block, sums, a->ds + block, tiled};
}

// The n <= INFC_GATHER_ROWS rows of a: (., K) that the members name, tiled or row-major; copied to `own` unless one row lies as it should.
static inline infc_q8 experts_gather_q8(const infc_q8 *a, int K, const infc_member *member, int n, int tiled, const infc_q8 *own)
{
    if (n == 1 && !tiled && !a->tiled) return infc_q8_from(a, K, member->row, 0);
    infc_q8 to = *own;
    to.tiled = tiled;
    for (int r = 0; r < n; r++) {
        for (int b = 0; b < K / 32; b++) {
            const size_t i = infc_q8_index(a, K, member[r].row, b), o = infc_q8_index(&to, K, r, b);
            memcpy(to.q + 32 * o, a->q + 32 * i, 32);
            to.d[o] = a->d[i];
            memcpy((uint8_t *)to.s + 4 * o, (const uint8_t *)a->s + 4 * i, 4);
            to.ds[o] = a->ds[i];
        }
    }
    return to;
}

static inline const float *experts_gather_f32(const float *a, int K, const infc_member *member, int n, float *own)
{
    if (n == 1) return a + (size_t)member->row * K;
    for (int r = 0; r < n; r++) memcpy(own + (size_t)r * K, a + (size_t)member[r].row * K, (size_t)K * 4);
    return own;
}

// x[m][n0..n0+15] = fma(scale[m], tile, x). x: (M, ldx); tile: (M, 16)
INFC_INLINE void epi_residual_rows(const float *tile, int M, float *x, int ldx, int n0, const float *scale)
{
    for (int m = 0; m < M; m++) {
        float *o = x + (size_t)m * ldx + n0;
        v16f_store(o, v16f_fma(v16f_set1(scale[m]), v16f_load(tile + 16 * m), v16f_load(o)));
    }
}

// x[row][n0..n0+15] = fma(weight, tile + bias, x) for each member. x: (., ldx); tile: (n, 16); bias: 16 values or NULL
INFC_INLINE void epi_experts(const float *tile, const infc_member *member, int n, const float *bias, float *x, int ldx, int n0)
{
    for (int r = 0; r < n; r++) {
        float *o = x + (size_t)member[r].row * ldx + n0;
        v16f y = v16f_load(tile + 16 * r);
        if (bias != NULL) y = v16f_add(y, v16f_load(bias));
        v16f_store(o, v16f_fma(v16f_set1(member[r].weight), y, v16f_load(o)));
    }
}
#endif
