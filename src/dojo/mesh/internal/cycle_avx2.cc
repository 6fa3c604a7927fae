// The stages of a cycle for vectors of 32 bytes.
#define DOJO_MESH_ISA avx2
#define DOJO_MESH_BYTES 32
#include "dojo/mesh/internal/cycle_function.h"
