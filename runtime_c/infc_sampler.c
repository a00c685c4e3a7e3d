// infc_sampler.c: choose a token. Everything is allocated by infc_sampler_open; the result depends on logits, options, the accepted
// tokens and the number of draws, nothing else. Cost: a few passes over the vocabulary; sorting touches only what is kept.
#include "infc_sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "infc_error.h"
#include "infc_fp.h"
#include "infc_model.h"
#include "infc_softmax.h"

enum { MAX_RECENT = 1 << 20 };

void infc_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c[4], k0 = key[0], k1 = key[1];
    memcpy(c, counter, sizeof c);
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53 * c[0], b = (uint64_t)0xCD9E8D57 * c[2];
        const uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k0, (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ k1, (uint32_t)a};
        memcpy(c, next, sizeof c);
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    memcpy(out, c, sizeof c);
}

double infc_uniform(uint64_t seed, uint64_t i) {
    const uint32_t counter[4] = {(uint32_t)i, (uint32_t)(i >> 32), 0, 0}, key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t r[4];
    infc_philox(counter, key, r);
    return (double)(((uint64_t)r[0] << 32 | r[1]) >> 11) * 0x1p-53;
}

// ---- open ------------------------------------------------------------------------------------------------------------------

static int read_sampling(const infc_sampling *given, infc_sampling *s) {
    *s = (infc_sampling){.size = sizeof *s, .top_p = 1, .repeat_penalty = 1};
    if (given) {
        if (given->size < sizeof *s) return infc_fail(INFC_EINPUT, "sampling.size is %u; set it to sizeof(infc_sampling)", given->size);
        for (uint32_t i = sizeof *s; i < given->size; i++)
            if (((const char *)given)[i]) return infc_fail(INFC_EINPUT, "the sampling options are newer than this program");
        *s = *given;
    }
    if (!isfinite(s->temperature)) return infc_fail(INFC_EINPUT, "temperature is %g; it must be finite, 0 for greedy", (double)s->temperature);
    if (!(s->top_p >= 0)) return infc_fail(INFC_EINPUT, "top_p is %g; it must be 0 to 1, 1 for off", (double)s->top_p);
    if (!(s->min_p >= 0 && s->min_p <= 1)) return infc_fail(INFC_EINPUT, "min_p is %g; it must be 0 (off) to 1", (double)s->min_p);
    if (!(s->repeat_penalty > 0 && isfinite(s->repeat_penalty)))
        return infc_fail(INFC_EINPUT, "repeat_penalty is %g; it must be positive, 1 for off", (double)s->repeat_penalty);
    if (s->repeat_last_n < -1 || s->repeat_last_n > MAX_RECENT)
        return infc_fail(INFC_EINPUT, "repeat_last_n is %d; it must be -1 (the context) to %d", s->repeat_last_n, MAX_RECENT);
    return INFC_OK;
}

int infc_sampler_open(const infc_model *m, const infc_sampling *sampling, infc_sampler **out) {
    if (!out) return infc_fail(INFC_EINPUT, "out is NULL");
    *out = NULL;
    if (!m) return infc_fail(INFC_EINPUT, "the model is NULL");
    infc_sampler *s = calloc(1, sizeof *s);
    if (!s) return infc_fail(INFC_ENOMEM, "no memory for a sampler");
    const int rc = read_sampling(sampling, &s->s);
    if (rc) {
        free(s);
        return rc;
    }
    s->pass = infc_passes_for(m->cpu_features);
    s->n_vocab = m->program->vocab_size;
    s->top_k = s->s.top_k > 0 && s->s.top_k < s->n_vocab ? s->s.top_k : 0;
    if (s->s.repeat_last_n < 0) s->s.repeat_last_n = m->program->n_ctx;
    const int sorts = s->s.temperature > 0 && (s->top_k || s->s.top_p < 1);
    const int penalises = s->s.repeat_penalty != 1 && s->s.repeat_last_n > 0;
    const size_t n_work = infc_padded((size_t)s->n_vocab), n_candidate = sorts ? (size_t)(s->top_k ? s->top_k : s->n_vocab) : 0;
    const size_t n_weight = infc_padded(n_candidate), n_recent = penalises ? (size_t)s->s.repeat_last_n : 0, n_count = penalises ? (size_t)s->n_vocab : 0;
    s->block = calloc(1, 4 * (n_work + n_weight + n_recent + n_count) + sizeof(infc_candidate) * n_candidate);
    if (!s->block) {
        free(s);
        return infc_fail(INFC_ENOMEM, "no memory for a sampler over %d tokens", m->program->vocab_size);
    }
    s->sorts = sorts;
    s->inverse_temperature = s->s.temperature > 1 / FLT_MAX ? 1 / s->s.temperature : FLT_MAX;  // never inf: 0 * inf is NaN
    s->log_min_p = s->s.min_p > 0 ? (float)infc_log((double)s->s.min_p) : -INFINITY;  // a subnormal float is a normal double
    s->work = s->block;
    s->weight = s->work + n_work;
    s->candidate = (infc_candidate *)(void *)(s->weight + n_weight);
    s->count = (uint32_t *)(void *)(s->candidate + n_candidate);
    s->recent = penalises ? (int32_t *)(void *)(s->count + n_count) : NULL;
    *out = s;
    return INFC_OK;
}

void infc_sampler_close(infc_sampler *s) {
    if (!s) return;
    free(s->block);
    free(s);
}

// ---- repeat penalty --------------------------------------------------------------------------------------------------------

static void accept(infc_sampler *s, int32_t id) {
    if (!s->recent) return;
    if (s->n_recent == s->s.repeat_last_n) s->count[s->recent[s->next_recent]]--;
    else s->n_recent++;
    s->recent[s->next_recent] = id;
    s->count[id]++;
    s->next_recent = s->next_recent + 1 == s->s.repeat_last_n ? 0 : s->next_recent + 1;
}

int infc_sampler_accept(infc_sampler *s, const int32_t *ids, size_t n) {
    if (!s) return infc_fail(INFC_EINPUT, "the sampler is NULL");
    if (n && !ids) return infc_fail(INFC_EINPUT, "ids is NULL");
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= s->n_vocab) return infc_fail(INFC_EINPUT, "token %d is outside the vocabulary of %d", ids[i], s->n_vocab);
    for (size_t i = 0; i < n; i++) accept(s, ids[i]);
    return INFC_OK;
}

// A token in the window is made less likely once, however often it is there (Keskar et al. 2019, CTRL, section 4.1).
static void penalise(infc_sampler *s) {
    for (int32_t i = 0; i < s->n_recent; i++) {
        const int32_t id = s->recent[i];
        // A mark in the top bit keeps a repeated id from being punished twice.
        if (s->count[id] & 0x80000000u) continue;
        s->count[id] |= 0x80000000u;
        const float x = s->work[id], y = x > 0 ? x / s->s.repeat_penalty : x * s->s.repeat_penalty;
        s->work[id] = y <= FLT_MAX ? y : FLT_MAX;
    }
    for (int32_t i = 0; i < s->n_recent; i++) s->count[s->recent[i]] &= 0x7fffffffu;
}

// ---- candidates ------------------------------------------------------------------------------------------------------------

static int better(infc_candidate a, infc_candidate b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

// Restores the heap below i. The root is the best candidate, or the worst when !best_first.
static void sift(infc_candidate *heap, int32_t n, int32_t i, int best_first) {
    const infc_candidate moving = heap[i];
    for (;;) {
        int32_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && better(heap[child + 1], heap[child]) == best_first) child++;
        if (better(heap[child], moving) != best_first) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moving;
}

static void make_heap(infc_candidate *heap, int32_t n, int best_first) {
    for (int32_t i = n / 2 - 1; i >= 0; i--) sift(heap, n, i, best_first);
}

// The k best of the vocabulary, best first: a heap of k whose root is the worst kept. Most tokens cost one comparison.
static void keep_top_k(infc_sampler *s) {
    infc_candidate *c = s->candidate;
    const int32_t k = s->top_k;
    for (int32_t id = 0; id < k; id++) c[id] = (infc_candidate){s->work[id], id};
    make_heap(c, k, 0);
    for (int32_t id = k; id < s->n_vocab; id++) {
        if (!(s->work[id] > c[0].logit)) continue;  // equal: the lower id, already in, stays
        c[0] = (infc_candidate){s->work[id], id};
        sift(c, k, 0, 0);
    }
    for (int32_t n = k - 1; n > 0; n--) {
        const infc_candidate worst = c[0];
        c[0] = c[n];
        c[n] = worst;
        sift(c, n, 0, 0);
    }
}

// Weights exp(logit - max) of n sorted candidates.
static void weigh(infc_sampler *s, int32_t n, float max, float scale) {
    const int32_t padded = (int32_t)infc_padded((size_t)n);
    for (int32_t i = 0; i < padded; i++) s->weight[i] = i < n ? s->candidate[i].logit : -INFINITY;
    s->pass->exp(s->weight, s->weight, (size_t)n, max, scale);
}

// top-p among n sorted candidates: the shortest prefix with at least top_p of their sum.
static int32_t cut_top_p(infc_sampler *s, int32_t n, float max) {
    weigh(s, n, max, 1);
    double sum = 0, total = 0;
    for (int32_t i = 0; i < n; i++) total += (double)s->weight[i];
    for (int32_t i = 0; i < n; i++) {
        sum += (double)s->weight[i];
        if (sum >= (double)s->s.top_p * total) return i + 1;
    }
    return n;
}

// top-p over the whole vocabulary, best first. Tokens below (1 - top_p) / n_vocab of the sum together weigh less than 1 - top_p, so
// they cannot be needed; the others go into a heap, and only the ones kept are taken out of it.
static int32_t keep_top_p(infc_sampler *s, float max) {
    const double total = s->pass->sum_exp(s->work, (size_t)s->n_vocab, max), goal = (double)s->s.top_p * total;
    const double least = (1.0 - (double)s->s.top_p) * total / (double)s->n_vocab;
    infc_candidate *c = s->candidate;
    s->pass->exp(s->weight, s->work, (size_t)s->n_vocab, max, 1);
    int32_t n = 0;
    for (int32_t id = 0; id < s->n_vocab; id++)
        if (s->weight[id] > 0 && (double)s->weight[id] >= least) c[n++] = (infc_candidate){s->work[id], id};
    make_heap(c, n, 1);
    double sum = 0;
    int32_t kept = 0;
    while (kept < n && (kept == 0 || sum < goal)) {
        sum += (double)s->weight[c[0].id];
        const infc_candidate best = c[0];
        kept++;
        c[0] = c[n - kept];
        c[n - kept] = best;  // taken out to the end, best last
        sift(c, n - kept, 0, 1);
    }
    for (int32_t i = 0; i < kept && i < n - 1 - i; i++) {  // to the front, best first
        const infc_candidate swap = c[i];
        c[i] = c[n - 1 - i];
        c[n - 1 - i] = swap;
    }
    return kept;
}

// ---- draw ------------------------------------------------------------------------------------------------------------------

// Index of the weight under which the next random number falls. At least one weight is positive.
static int32_t draw(infc_sampler *s, const float *weight, int32_t n) {
    double total = 0, sum = 0;
    for (int32_t i = 0; i < n; i++) total += (double)weight[i];
    const double goal = infc_uniform(s->s.seed, s->draws++) * total;
    int32_t last = 0;
    for (int32_t i = 0; i < n; i++) {
        if (!(weight[i] > 0)) continue;
        last = i;
        sum += (double)weight[i];
        if (sum > goal) return i;
    }
    return last;  // rounding put the goal at the total
}

// Nothing to sort: tokens in the order of their ids; min-p by a threshold.
static int32_t draw_from_all(infc_sampler *s, float max) {
    const size_t n = (size_t)s->n_vocab;
    if (s->s.min_p > 0) {
        const float least = max + s->log_min_p;
        for (size_t i = 0; i < n; i++)
            if (s->work[i] < least) s->work[i] = -INFINITY;
    }
    s->pass->exp(s->work, s->work, n, max, s->inverse_temperature);
    return draw(s, s->work, s->n_vocab);
}

static int32_t draw_from_sorted(infc_sampler *s, float max) {
    int32_t n = s->top_k;
    if (n) {
        keep_top_k(s);
        if (s->s.top_p < 1) n = cut_top_p(s, n, max);
    } else {
        n = keep_top_p(s, max);
    }
    if (s->s.min_p > 0) {
        const float least = max + s->log_min_p;
        while (n > 1 && s->candidate[n - 1].logit < least) n--;
    }
    weigh(s, n, max, s->inverse_temperature);
    return s->candidate[draw(s, s->weight, n)].id;
}

static void choose(infc_sampler *s, const float *logits, infc_choice *out) {
    const size_t n = (size_t)s->n_vocab;
    float max = s->pass->copy(s->work, logits, n);
    if (max == -INFINITY) {  // no finite logit: there is no distribution, but the caller's loop must go on
        *out = (infc_choice){0, -INFINITY};
        return;
    }
    const double top = (double)max, log_sum = infc_log(s->pass->sum_exp(s->work, n, max));  // apart: their sum would lose log_sum at FLT_MAX
    if (s->recent) {
        penalise(s);
        max = s->pass->max(s->work, n);
    }
    if (s->s.temperature <= 0 || max == -INFINITY) out->id = s->pass->first_of(s->work, max);
    else out->id = s->sorts ? draw_from_sorted(s, max) : draw_from_all(s, max);
    const float own = logits[out->id];
    out->logprob = own == -INFINITY || own != own ? -INFINITY : (float)((own > FLT_MAX ? (double)FLT_MAX : (double)own) - top - log_sum);
}

int infc_sample(infc_sampler *s, const float *logits, infc_choice *out) {
    if (!s || !logits || !out) return infc_fail(INFC_EINPUT, "the sampler, the logits or out is NULL");
    const uint64_t fp = infc_fp_enter();
    choose(s, logits, out);
    infc_fp_leave(fp);
    accept(s, out->id);
    return INFC_OK;
}
