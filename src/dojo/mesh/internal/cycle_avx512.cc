// The stages of a cycle for vectors of 64 bytes.
#define DOJO_MESH_ISA avx512
#define DOJO_MESH_BYTES 64
#include "dojo/mesh/internal/cycle_function.h"
