// infc_cpu.h: what this CPU and this kernel let a program use. Baseline code only: it runs before any wide instruction.
#ifndef INFC_CPU_H
#define INFC_CPU_H
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

// The registers the answer depends on, apart from the code that reads them so that tests can describe any CPU.
typedef struct infc_cpu_regs {
    uint32_t max_leaf;
    uint32_t amd;  // 1: the vendor is AuthenticAMD
    uint32_t leaf1_ecx;
    uint32_t leaf7_ebx, leaf7_ecx, leaf7_edx;
    uint32_t tiles_granted;  // the kernel lets this process use AMX tile data (see infc_cpu_request_tiles)
    uint64_t xcr0;           // 0 when OSXSAVE is off
} infc_cpu_regs;

infc_cpu_regs infc_cpu_read(void);
// Linux gives tile registers only to a process that asks. Asks once for the whole process, if the CPU has tiles at all, and notes the answer.
void infc_cpu_request_tiles(infc_cpu_regs *regs);
// INFC_CPU_* bits that may be used: the CPU has every part and the operating system saves the registers.
uint32_t infc_cpu_features(const infc_cpu_regs *regs);
// First missing part of `requires_cpu` in words ("AVX-512 VNNI"), NULL when nothing is missing.
const char *infc_cpu_missing(const infc_cpu_regs *regs, uint32_t requires_cpu);
// The `--target` this CPU can run: "amx" (after infc_cpu_request_tiles), "avx512", "avx2" or "scalar".
const char *infc_cpu_target(const infc_cpu_regs *regs);
extern _Atomic int infc_cpu_drops;  // see infc_simd.h
// What it is on this CPU, whether prefetches are dropped while many are under way: 1 for AMD's with AVX-512.
int infc_cpu_drops_prefetches(const infc_cpu_regs *regs);

#endif
