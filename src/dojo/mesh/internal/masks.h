// Masks and counters of VCs in vectors, and what the stages of a cycle hand to each other.
#pragma once

#include "dojo/mesh/internal/lanes.h"

namespace dojo::mesh::internal::DOJO_MESH_ISA {

template <int kVcs>
struct Masks {
  using B = Block<kVcs>;
  using Word = typename B::Word;
  using L = Lanes<Word>;
  using Vec = typename L::Vec;
  using Row = typename B::Row;
  using Planes = std::array<Row, kPlanes>;

  static constexpr Word bit(int output, int vc) { return Word{1} << (output * kVcs + vc); }
  static constexpr Word kGroup = (Word{1} << kVcs) - 1;
  static constexpr Word group(int port) { return kGroup << (port * kVcs); }
  // One bit per port, at its first VC.
  static constexpr Word kPortBits = bit(0, 0) | bit(1, 0) | bit(2, 0) | bit(3, 0) | bit(4, 0);

  static Vec any_plane(const Planes& planes, int lane) {
    Vec any{};
    for (const Row& plane : planes) {
      any |= L::load(&plane[lane]);
    }
    return any;
  }
  // Adds one to the counters of `which`, of so many bits.
  static void add_to(Planes& planes, int lane, Vec which, int bits = kPlanes) {
    for (int k = 0; k < bits; ++k) {
      Row& plane = planes[static_cast<std::size_t>(k)];
      const Vec before = L::load(&plane[lane]);
      L::store(&plane[lane], before ^ which);
      which &= before;
    }
  }
  static void take_from(Planes& planes, int lane, Vec which) {
    for (Row& plane : planes) {
      const Vec before = L::load(&plane[lane]);
      L::store(&plane[lane], before ^ which);
      which &= ~before;
    }
  }

  // VCs named in a byte per lane (vc + 1, 0: none), as bits of the port's group.
  static Vec vc_bits(Vec bytes, int port) {
    return (((L::all(1) << bytes) & ~L::all(1)) >> 1) << (port * kVcs);
  }
};

// Of the block at hand, within one cycle.
template <int kVcs>
struct alignas(kRowBytes) Scratch {
  using Row = typename Block<kVcs>::Row;

  Row room{};                                  // output VCs with a slot, this cycle's credits too
  Row injected{};                              // the source's VC that gives a slot away
  Row used{};                                  // output VCs that give a slot away
  Row popped{};                                // input VCs whose front flit leaves for good
  Row more{};                                  // input VCs that still have a flit
  std::array<Row, kPorts> moved{};             // by output: the input VC that is granted it
  std::array<std::uint32_t, kPorts> movers{};  // by output: lanes that move a flit to it
  // Of copied flits that move; zero where routers do not copy.
  Row kept{};  // input VCs that have copies left, so that the flit stays
};

}  // namespace dojo::mesh::internal::DOJO_MESH_ISA
