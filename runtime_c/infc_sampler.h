// infc_sampler.h: what infc_sampler holds, and its random numbers. The steps, in llama.cpp's order:
//   repeat penalty -> top-k -> top-p -> min-p -> temperature -> draw;   greedy (after the penalty) when temperature <= 0.
// top-p and min-p look at probabilities at temperature 1. Equal logits: the lower id comes first.
#ifndef INFC_SAMPLER_H
#define INFC_SAMPLER_H
#include <stdint.h>

#include "infc.h"

typedef struct infc_candidate {
    float logit;
    int32_t id;
} infc_candidate;

struct infc_sampler {
    infc_sampling s;
    const struct infc_passes *pass;  // over the vocabulary, for this CPU
    int32_t n_vocab;
    int32_t top_k;              // 0: all
    int sorts;                  // candidates are put in order
    float inverse_temperature;
    float log_min_p;            // natural log; -inf: off
    uint64_t draws;             // numbers drawn: the counter of the generator
    float *work;                // (n_vocab padded) logits after the penalty
    infc_candidate *candidate;  // (top_k, or n_vocab)
    float *weight;              // (top_k, or n_vocab, padded)
    int32_t *recent;            // (repeat_last_n) ring of accepted tokens; NULL: no penalty
    uint32_t *count;            // (n_vocab) times a token is in the ring
    int32_t n_recent, next_recent;
    void *block;                // the one allocation behind the arrays
};

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
void infc_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
// Draw number i of a seed, in [0, 1): 53 bits of philox(counter = i, key = seed). No state.
double infc_uniform(uint64_t seed, uint64_t i);

#endif
