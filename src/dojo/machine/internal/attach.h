// Where interface processors are attached.
#pragma once

#include <vector>

#include "dojo/machine/internal/facts.h"
#include "dojo/machine/machine_model.h"

namespace dojo::machine::internal {

// Processors and hosts are counted per tray; on a machine without trays, of the machine.
Level carrier_level(const Facts& facts);

// Dies along the given edges of one carrier.
std::int64_t rim_dies(Shape carrier, const std::vector<Side>& edges);

// `per_carrier` processors on each carrier, carriers in row-major order. On a carrier the rim dies
// of its edges (edges in the order given; north to south, west to east) share them evenly.
std::vector<Attachment> attachments(Shape dies, Shape carrier, const std::vector<Side>& edges,
                                    int per_carrier);

}  // namespace dojo::machine::internal
