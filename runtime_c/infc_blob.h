// infc_blob.h: the weights and tables appended to the executable or library. Layout:
//   page 0 of the blob: "INFCBLB1", u32 version, u32 n_sections, n_sections x {u32 id, u32 reserved, u64 offset, u64 size};
//   last 64 bytes of the file: "INFCEND1", u32 version, u32 0, u64 blob_offset, u64 blob_size, sha256 of the blob.
// All little-endian; offsets count from the start of the blob and are multiples of 4096.
#ifndef INFC_BLOB_H
#define INFC_BLOB_H
#include <stddef.h>
#include <stdint.h>

enum { INFC_SECTION_WEIGHTS = 1, INFC_SECTION_TOKENIZER = 2, INFC_SECTION_CHAT = 3, INFC_SECTION_META = 4, INFC_N_SECTIONS = 5 };

typedef struct infc_section {
    const uint8_t *data;  // NULL: the blob has no such section
    uint64_t size;
} infc_section;

typedef struct infc_blob {
    int fd;                 // kept for `verify`; -1: closed
    void *map;              // a reservation; in it, read-only and shared, the blob
    size_t map_bytes;
    const uint8_t *base;    // first byte of the blob
    uint64_t offset, size;  // of the blob in the file
    uint64_t file_bytes;    // when it was opened
    uint8_t sha256[32];
    infc_section section[INFC_N_SECTIONS];  // by id
} infc_blob;

// Path of the executable or library this code was loaded from. Returns 0 or INFC_EFILE.
int infc_blob_own_path(char *out, size_t cap);
// Maps the blob at the end of the file; checks every offset and size, believes none. Returns 0, INFC_EFILE or INFC_ENOMEM.
int infc_blob_open(infc_blob *b, const char *path);
// Makes the pages of part `part` of `parts` of the weights present, so that the first step meets no page faults. Parts may run at the
// same time. Best effort: what is not done here is done by the first reads.
void infc_blob_populate(const infc_blob *b, int part, int parts);
void infc_blob_close(infc_blob *b);
// Reads all bytes from the file, not through the mapping, so a truncated file is an error and no SIGBUS. 0 or INFC_EFILE.
int infc_blob_verify(const infc_blob *b);

#endif
