// infc_cpu.c: CPUID and XCR0. Feature bits: Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E.
#include "infc_cpu.h"

#include "infc_program.h"

// SSE + AVX; and opmask + upper ZMM + high ZMM; and tile configuration + tile data
enum { XCR0_AVX = 0x06, XCR0_AVX512 = 0xe6, XCR0_TILES = 0x60000 };
enum { AMX_TILE = 1 << 24, AMX_INT8 = 1 << 25 };  // of leaf 7, EDX

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

infc_cpu_regs infc_cpu_read(void) {
    infc_cpu_regs r = {0};
    uint32_t a, b, c, d;
    if (!__get_cpuid(0, &r.max_leaf, &b, &c, &d)) return r;
    r.amd = b == 0x68747541 && d == 0x69746e65 && c == 0x444d4163;  // "Auth" "enti" "cAMD"
    if (__get_cpuid(1, &a, &b, &c, &d)) r.leaf1_ecx = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        r.leaf7_ebx = b;
        r.leaf7_ecx = c;
        r.leaf7_edx = d;
    }
    if (r.leaf1_ecx & (1u << 27)) {  // OSXSAVE: xgetbv may be executed
        uint32_t low, high;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        r.xcr0 = (uint64_t)high << 32 | low;
    }
    return r;
}

void infc_cpu_request_tiles(infc_cpu_regs *regs) {
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { ARCH_GET_XCOMP_PERM = 0x1022, ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };  // linux/arch/x86: asm/prctl.h
    unsigned long granted = 0;
    if (!(regs->leaf7_edx & AMX_TILE) || (regs->xcr0 & XCR0_TILES) != XCR0_TILES) return;
    syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA);
    if (syscall(SYS_arch_prctl, ARCH_GET_XCOMP_PERM, &granted) == 0) regs->tiles_granted = (granted >> XFEATURE_XTILEDATA & 1) != 0;
#else
    (void)regs;
#endif
}
#else
infc_cpu_regs infc_cpu_read(void) { return (infc_cpu_regs){0}; }
void infc_cpu_request_tiles(infc_cpu_regs *regs) { (void)regs; }
#endif

typedef struct part {
    uint32_t feature;  // INFC_CPU_* bit it belongs to
    const char *name;
    uint8_t reg;       // 0: leaf1_ecx, 1: leaf7_ebx, 2: leaf7_ecx, 3: xcr0, 4: leaf7_edx, 5: tiles_granted
    uint64_t mask;     // all bits must be set
} part;

// The CPU's own bits come before the operating system's, so that the message names the CPU when both are missing.
static const part parts[] = {
    {INFC_CPU_AVX2, "AVX", 0, 1u << 28},
    {INFC_CPU_AVX2, "AVX2", 1, 1u << 5},
    {INFC_CPU_AVX2, "FMA", 0, 1u << 12},
    {INFC_CPU_AVX2, "F16C", 0, 1u << 29},
    {INFC_CPU_AVX2, "the operating system's support for AVX registers", 3, XCR0_AVX},
    {INFC_CPU_AVX512, "AVX2", 1, 1u << 5},
    {INFC_CPU_AVX512, "FMA", 0, 1u << 12},
    {INFC_CPU_AVX512, "F16C", 0, 1u << 29},
    {INFC_CPU_AVX512, "AVX-512 F", 1, 1u << 16},
    {INFC_CPU_AVX512, "AVX-512 DQ", 1, 1u << 17},
    {INFC_CPU_AVX512, "AVX-512 BW", 1, 1u << 30},
    {INFC_CPU_AVX512, "AVX-512 VL", 1, 1u << 31},
    {INFC_CPU_AVX512, "AVX-512 VNNI", 2, 1u << 11},
    {INFC_CPU_AVX512, "the operating system's support for AVX-512 registers", 3, XCR0_AVX512},
    {INFC_CPU_AMX, "AMX-TILE", 4, AMX_TILE},
    {INFC_CPU_AMX, "AMX-INT8", 4, AMX_INT8},
    {INFC_CPU_AMX, "the operating system's support for AMX tiles", 3, XCR0_TILES},
    {INFC_CPU_AMX, "the kernel's permission to use AMX tiles", 5, 1},
};

const char *infc_cpu_missing(const infc_cpu_regs *regs, uint32_t requires_cpu) {
    const uint64_t value[] = {regs->leaf1_ecx, regs->leaf7_ebx, regs->leaf7_ecx, regs->xcr0, regs->leaf7_edx, regs->tiles_granted};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if ((requires_cpu & parts[i].feature) && (value[parts[i].reg] & parts[i].mask) != parts[i].mask) return parts[i].name;
    if (requires_cpu & ~(uint32_t)(INFC_CPU_AVX2 | INFC_CPU_AVX512 | INFC_CPU_AMX)) return "a feature this runtime does not know";
    return NULL;
}

uint32_t infc_cpu_features(const infc_cpu_regs *regs) {
    uint32_t features = 0;
    if (!infc_cpu_missing(regs, INFC_CPU_AVX2)) features |= INFC_CPU_AVX2;
    if (!infc_cpu_missing(regs, INFC_CPU_AVX512)) features |= INFC_CPU_AVX512;
    if (!infc_cpu_missing(regs, INFC_CPU_AVX512 | INFC_CPU_AMX)) features |= INFC_CPU_AMX;
    return features;
}

const char *infc_cpu_target(const infc_cpu_regs *regs) {
    const uint32_t features = infc_cpu_features(regs);
    return features & INFC_CPU_AMX ? "amx" : features & INFC_CPU_AVX512 ? "avx512" : features & INFC_CPU_AVX2 ? "avx2" : "scalar";
}

_Atomic int infc_cpu_drops;

// Zen 4: of prefetches faster than memory answers, what finds no place is dropped (docs/performance.md). Zen 3, which has no AVX-512, has
// not been measured for it.
int infc_cpu_drops_prefetches(const infc_cpu_regs *regs) { return regs->amd && (regs->leaf7_ebx & 1u << 16); }
