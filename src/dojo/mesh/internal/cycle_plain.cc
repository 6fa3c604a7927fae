// The stages of a cycle for vectors of 16 bytes.
#define DOJO_MESH_ISA plain
#define DOJO_MESH_BYTES 16
#include "dojo/mesh/internal/cycle_function.h"
