// infc_fp.h: the floating-point state under which the arithmetic contract holds: round to nearest even, no FTZ, no DAZ, exceptions
// masked. A host application may have set something else, so every entry that computes sets it and puts the caller's back.
#ifndef INFC_FP_H
#define INFC_FP_H
#include <stdint.h>

#if defined(__x86_64__)
static inline uint64_t infc_fp_enter(void) {
    const uint32_t contract = 0x1f80;
    uint32_t callers;
    __asm__ volatile("stmxcsr %0" : "=m"(callers));
    if (callers != contract) __asm__ volatile("ldmxcsr %0" : : "m"(contract) : "memory");
    return callers;
}
static inline void infc_fp_leave(uint64_t callers) {
    const uint32_t value = (uint32_t)callers;  // the sticky exception flags are the caller's too
    __asm__ volatile("ldmxcsr %0" : : "m"(value) : "memory");
}
#elif defined(__aarch64__)
static inline uint64_t infc_fp_enter(void) {
    uint64_t callers;
    __asm__ volatile("mrs %0, fpcr" : "=r"(callers));
    if (callers) __asm__ volatile("msr fpcr, xzr" : : : "memory");
    return callers;
}
static inline void infc_fp_leave(uint64_t callers) { __asm__ volatile("msr fpcr, %0" : : "r"(callers) : "memory"); }
#else
static inline uint64_t infc_fp_enter(void) { return 0; }
static inline void infc_fp_leave(uint64_t callers) { (void)callers; }
#endif

#endif
