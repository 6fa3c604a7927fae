// Tells a network in which something waits for ever from one that is only slow.
#pragma once

#include <algorithm>
#include <string>

#include "dojo/mesh/mesh.h"
#include "dojo/mesh/waiting_channels.h"

namespace dojo::mesh::internal {

class Watch {
 public:
  // To be asked at least this often: flits tell their time in the network modulo 2^17.
  static constexpr Cycle kPeriod = 1u << 14;
  // A flit that is this long in the network is starved.
  static constexpr Cycle kStarved = 1u << 16;

  Watch() = default;
  explicit Watch(const Mesh& mesh, bool traps_starvation = true)
      : traps_starvation_(traps_starvation),
        patience_(kPeriod + 2 * mesh.longest_pause()),
        since_(mesh.now()) {}

  // What waits for what, if something waits for ever; empty: all is well. `waits_for_a_time`: a
  // node will go on of its own accord later.
  std::string check(const Mesh& mesh, bool waits_for_a_time = false) {
    const std::uint64_t moved = mesh.flits_moved();
    if (moved != moved_ || waits_for_a_time) {
      moved_ = moved;
      since_ = mesh.now();
    } else if (mesh.now() - since_ >= patience_ && (expects_arrivals_ || !mesh.has_no_flits())) {
      return describe_waiting(mesh, "nothing moves");
    }
    return traps_starvation_ && mesh.oldest_flit() >= kStarved
               ? describe_waiting(mesh, "a flit is starved")
               : std::string();
  }
  // Messages have to arrive: then an empty network that does not move is stuck as well.
  void expect_arrivals() { expects_arrivals_ = true; }

 private:
  bool traps_starvation_ = true;
  Cycle patience_ = 0;
  Cycle since_ = 0;
  std::uint64_t moved_ = 0;
  bool expects_arrivals_ = false;
};

}  // namespace dojo::mesh::internal
