// infc_profile.h: where the time of a forward pass goes. `infc explain` compiles an artifact's own sources with -DINFC_PROFILE; in every
// other build a probe is no instruction at all.
//
// Thread 0 reads the clock after each phase. Phases end at a barrier (or, after q/k/v, where attention takes over), so its intervals
// add up to the time of the pass, waiting for slower threads included.
#ifndef INFC_PROFILE_H
#define INFC_PROFILE_H

#ifdef INFC_PROFILE
#include "infc.h"

enum { INFC_MAX_PROBES = 16384 };  // of a model whose every layer has a kind of its own

void infc_profile_start(int thread);
void infc_profile_mark(int thread, int probe);
// Time and number of marks of probes 0..n-1 since the last call, which are then forgotten. 0 or INFC_EINPUT.
INFC_API int infc_profile_take(int32_t n, double *seconds, uint64_t *marks);

#define INFC_PROBE_START(pass) infc_profile_start((pass)->t)
#define INFC_PROBE(pass, probe) infc_profile_mark((pass)->t, probe)
#else
#define INFC_PROBE_START(pass) ((void)0)
#define INFC_PROBE(pass, probe) ((void)0)
#endif
#endif
