"""The compiler and linker flags infc adds to a recipe's own. Every flag carries its reason.

The recipe names the language, the flags of the arithmetic contract and the libraries (``emit.C_FLAGS``, ``emit.LINK_FLAGS``).
"""

from __future__ import annotations

COMMON = (
    "-O2",  # kernels are written with intrinsics and fixed trip counts; a source may ask for more in the recipe
    "-fPIC",  # one object serves the executable (PIE) and the shared library
    "-fvisibility=hidden",  # only infc_* of infc.h leaves the library
    "-fno-trapping-math",  # allows branch-free selects; changes no value, we read no exception flags
    "-fno-semantic-interposition",  # calls inside the library may be inlined
    "-ffunction-sections",  # with --gc-sections: the library drops the command line, the executable what it does not call
    "-fdata-sections",
    "-fno-asynchronous-unwind-tables",  # C without exceptions: no unwinder ever runs here
    "-fstack-protector-strong",  # hardening; kernels switch it off below
    "-U_FORTIFY_SOURCE",  # some distributions' compilers define it: a second definition would be a warning
    "-D_FORTIFY_SOURCE=2",  # bounds checks in libc calls where sizes are known
    "-Wall",
    "-Wextra",
    "-Werror",  # there is no third outcome between refused and clean
    "-g0",  # debug information would record the build directory
)
KERNEL = ("-fno-stack-protector",)  # inner loops have fixed frames and no buffers of input-dependent size
GCC = ("-fno-ident",)  # no compiler banner: the manifest has it
CLANG = (
    "-fno-ident",
    "-Wno-unused-command-line-argument",  # clang warns about flags that only some inputs use
)

LINK = (
    "-Wl,-z,relro,-z,now",  # full RELRO: no writable GOT
    "-Wl,-z,noexecstack",
    "-Wl,--gc-sections",
    "-Wl,--build-id=none",  # the manifest holds the checksums
    "-Wl,--as-needed",
)
PROGRAM = ("-pie",)
LIBRARY = (
    "-shared",
    "-Wl,-Bsymbolic",  # two models in one process: each calls its own infc_*
    "-Wl,--no-undefined",  # a missing symbol is our error now, not the user's at load
)

GCC_LTO = ("-flto", "-fno-fat-lto-objects")
GCC_LTO_LINK = ("-flto", "-flto-partition=one")  # one partition: the same bytes whatever the number of jobs
CLANG_LTO = ("-flto=thin",)

GCC_INSTRUMENT = ("-fprofile-generate", "-fprofile-update=single")  # training uses one thread
GCC_USE = (
    "-fprofile-use",  # finds OBJECT.gcda beside OBJECT.o
    "-fprofile-partial-training",  # code the training did not reach is optimised for speed as without a profile
    "-Wno-missing-profile",  # a source that training never entered has none
    "-Wno-error=coverage-mismatch",
)
CLANG_INSTRUMENT = ("-fprofile-instr-generate",)
CLANG_USE = ("-Wno-profile-instr-unprofiled", "-Wno-profile-instr-out-of-date")
