"""The table of speeds that issue 3 asks for, beside llama.cpp and ik_llama.cpp in interleaved turns: a command, not a test.

    python -m tests.measure_peers ARTIFACT MODEL.gguf [--gemma ARTIFACT FILE] [--one-b ARTIFACT FILE]
        [--llama-amx BIN] [--llama-avx512 BIN] [--ik BIN] [--isa amx,avx512,avx2] [--turns 5] [--rows NAME,...]
        [--keep FILE.json] [-o md|json]

ARTIFACT is SmolLM2 Q4_1 compiled with ``--ctx 8192`` for the targets to measure, MODEL.gguf the file it was compiled from, which the
peers load. BIN is a folder with a peer's llama-bench and, of llama.cpp, llama-batched-bench (``build/bin`` of cmake): a build of llama.cpp
with AMX, one without (AVX-512), one of ik_llama.cpp. What is not given is left out, and a line below the table says so. Every row runs in
turns, A B C A B C, each contestant a process of its own; ``--list`` names the rows. With ``--keep`` the turns stay in FILE, and a later
call goes on from there: a table can be made row by row, and ``--turns 0`` only prints what there is.
"""
