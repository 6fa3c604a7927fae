// Remedies against too little memory, in order (docs/placement.md, "Memory"): slice copies that all
// nodes hold alike; compute element-wise results and norms again; compute whole blocks again. Each
// is taken greedily by cycles per byte that it frees where memory is fullest.
#pragma once

#include <vector>

#include "dojo/place/internal/draft.h"
#include "dojo/place/internal/memory.h"

namespace dojo::place::internal {

struct Fit {
  bool fits = false;
  std::vector<std::optional<Life>> life;
  MemoryPlan plan;
  std::vector<program::Remedy> remedies;
};

// Changes the draft until its memory plan needs at most `capacity`, or no remedy is left.
Fit make_fit(Draft& draft, Bytes capacity, const Mesh& mesh, const machine::MachineModel& machine);

}  // namespace dojo::place::internal
