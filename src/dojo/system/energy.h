// Energy of one step: what its events take, and what burns all the time.
//
// Events are priced by the machine's constants (docs/machine.md, "Energy"): multiply-adds, lanes of
// the vector pipe, bytes in and out of SRAM, bytes times hops. Always on, whatever the step does:
// clock and leakage of all dies, SerDes lanes, I/O dies, interface processors, hosts. They are what
// the published powers leave beside the events of full load, so a step at full load takes the
// published power. Bytes over edges, HBM and Ethernet have no events of their own: their lanes are
// always on. A tile's regulators waste their part of what dies take.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "dojo/base/units.h"
#include "dojo/machine/description.h"
#include "dojo/machine/machine_model.h"
#include "dojo/program/program.h"

namespace dojo::system {

enum class EnergyPart : std::uint8_t {
  Matrix,      // multiply-adds of the matrix units
  Vector,      // FP32 operations of the vector pipes, rounding included
  Sram,        // bytes read and written, by computations and transfers
  Mesh,        // bytes times hops
  Static,      // clock and leakage of all live dies, busy or not
  Serdes,      // lanes at the edges of dies
  Supply,      // lost in the tiles' regulators
  TileIo,      // I/O dies of the tiles
  Processors,  // interface processors with their HBM
  Hosts,
};
inline constexpr std::size_t kEnergyPartCount = 10;
std::string_view name(EnergyPart part);  // "matrix", ...

// What a step does, over the whole machine.
struct Events {
  double matrix_macs = 0;
  double vector_lanes = 0;
  double sram_bytes = 0;
  double hop_bytes = 0;
};

struct Energy {
  std::array<Joules, kEnergyPartCount> parts{};
  // With every assumed energy fact at the end of its range that takes less, and more.
  Joules low{};
  Joules high{};

  Joules& operator[](EnergyPart part) { return parts[static_cast<std::size_t>(part)]; }
  Joules operator[](EnergyPart part) const { return parts[static_cast<std::size_t>(part)]; }
  Joules total() const;
};

// Work that several nodes do alike (replicated operands) is counted once.
Events events_of(const program::Program& program, const machine::MachineModel& machine);

// `step`: from one step to the next. Low and high equal the total.
Energy energy_of(const Events& events, Picoseconds step, const machine::MachineModel& machine);

// The same with its band.
Energy energy_of(const Events& events, Picoseconds step, const machine::Description& machine);

}  // namespace dojo::system
