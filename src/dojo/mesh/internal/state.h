// The state of the mesh's engine, laid out for cycle.h.
//
// **Lanes are routers.** What the allocators read is kept as masks of VCs: bit port * V + vc of a
// word is input VC (or output VC) `vc` of `port`; V VCs need 5 V bits, and the sources of packets a
// sixth group in masks of output VCs, so up to 5 VCs fit 32 bits and up to 10 fit 64. A Block holds
// one word per router for 16 (or 8) routers: every field is a row of 64 bytes, word l belongs to
// router block * lanes + l. So one vector instruction does the same step for 16 routers, and the
// layout does not depend on the width that the CPU at hand has.
//
// **Counters are bit planes**: bit i of planes[k] is bit k of VC i's counter. Adding a mask of ones
// to all counters of 16 routers is eight instructions, "is not zero" is three.
//
// **Pointers are masks** of the bits at or above them (see Lanes::first_from). iSLIP's accept
// pointer is kept the other way round: last[o][v] are the inputs that accepted output VC (o, v)
// last, so each input is in at most one of them; the owner of a busy output VC is the one of them
// that is active.
//
// **Flits do not move.** A router grants a flit and writes it straight into its place in the
// neighbour's FIFO: the credit it holds guarantees that the place is free. What makes it visible
// is one byte in the wheel of arrivals, due `flit_delay` cycles later; a freed slot is one byte in
// the wheel of credits. Each byte has one writer and one reader, a cycle at least apart, so neither
// the order of routers nor that of threads can matter. Wheels are [slot][port][router]: the bytes
// of 16 neighbouring routers are one load.
//
// **A FIFO** is `capacity` (a power of two) flits of 8 bytes; the reader keeps where it reads, the
// sender where it writes, and nobody counts but the planes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "dojo/mesh/counters.h"
#include "dojo/mesh/router_config.h"
#include "dojo/mesh/traffic.h"

namespace dojo::mesh::internal {

inline constexpr int kPlanes = 4;        // counters up to 15
inline constexpr int kCreditGroups = 6;  // five output ports, and the source as a sixth
inline constexpr int kSourceGroup = kPorts;
inline constexpr int kRowBytes = 64;

template <int kVcs>
struct alignas(kRowBytes) Block {
  using Word = std::conditional_t<kCreditGroups * kVcs <= 32, std::uint32_t, std::uint64_t>;
  static constexpr int kLanes = kRowBytes / sizeof(Word);
  static constexpr int kInputs = kPorts * kVcs;
  using Row = std::array<Word, kLanes>;

  // Input VCs. An idle VC is in none of the masks, and its FIFO is empty.
  std::array<Row, 8> waiting;       // by output port; rows 5 to 7 are never read
  Row active;                       // own an output VC
  std::array<Row, kPlanes> queued;  // flits in the FIFO
  // Output VCs; slots: also those of the source at input kLocal.
  Row busy;
  std::array<Row, kPlanes> slots;  // free slots of the FIFO behind
  // VC allocation, per output VC.
  std::array<Row, kInputs> last;     // inputs that accepted it last
  std::array<Row, kInputs> vc_from;  // grant pointer
  // Switch allocation: bit port * V stands for an input port.
  std::array<Row, kPorts> port_last;  // inputs that accepted this output last
  std::array<Row, kPorts> port_from;  // grant pointer, per output
  Row vc_next;                        // within each port's group: the VCs from next_vc on
  std::array<Row, kPorts> sent;       // flits since the last reset, by output port
};

// One flit in a word: [destination 16][port 3][tail 1][measured 1][injected 19][generated 24].
// `port` is the output at the router that has it (or is about to have it); the times are modulo.
struct Flit {
  static constexpr int kPortShift = 16;
  static constexpr int kTailShift = 19;
  static constexpr int kMeasuredShift = 20;
  static constexpr int kInjectedShift = 21;
  static constexpr int kGeneratedShift = 40;
  static constexpr std::uint32_t kInjectedMask = (1u << 19) - 1;
  static constexpr std::uint32_t kGeneratedMask = (1u << 24) - 1;
  static constexpr std::uint64_t kPortMask = std::uint64_t{7} << kPortShift;

  static std::uint64_t make(std::uint32_t destination, Cycle injected, Cycle generated) {
    return destination | (std::uint64_t{injected & kInjectedMask} << kInjectedShift) |
           (std::uint64_t{generated & kGeneratedMask} << kGeneratedShift);
  }
  static std::uint32_t destination(std::uint64_t flit) { return flit & 0xFFFFu; }
  static std::uint32_t port(std::uint64_t flit) { return (flit >> kPortShift) & 7u; }
  static std::uint64_t with_port(std::uint64_t flit, std::uint32_t port) {
    return (flit & ~kPortMask) | (std::uint64_t{port} << kPortShift);
  }
  // Cycles from then until `now`.
  static std::uint32_t since_injected(std::uint64_t flit, Cycle now) {
    return (now - static_cast<std::uint32_t>(flit >> kInjectedShift)) & kInjectedMask;
  }
  static std::uint32_t since_generated(std::uint64_t flit, Cycle now) {
    return (now - static_cast<std::uint32_t>(flit >> kGeneratedShift)) & kGeneratedMask;
  }
};
inline constexpr std::size_t kMaxRouters = 1u << 16;

// Where a packet goes next. Coordinates: the way along each axis is looked up by the difference, so
// rectangles (x or y first) and rings cost the same few instructions. A table: next output by
// (router, input port, destination).
struct Routes {
  struct Place {
    std::uint16_t x = 0;
    std::uint16_t y = 0;
  };
  std::vector<Place> places;
  std::vector<std::uint8_t> x_way;     // [x of destination - x + columns]: 0 there, 1 east, 2 west
  std::vector<std::uint8_t> y_way;     // likewise: 0, 1 south, 2 north
  std::vector<std::uint16_t> x_links;  // links to cross, by the same index
  std::vector<std::uint16_t> y_links;
  std::array<std::uint8_t, 16> port_of_ways{};  // [x_way + 4 * y_way]
  std::uint32_t x_bias = 0;
  std::uint32_t y_bias = 0;
  std::vector<std::uint8_t> table;  // [(router * kPorts + input) * routers + destination], or none

  std::uint32_t port(std::uint32_t router, int input, std::uint32_t destination) const {
    if (!table.empty()) [[unlikely]] {
      return table[(std::size_t{router} * kPorts + static_cast<std::size_t>(input)) *
                       places.size() +
                   destination];
    }
    const Place here = places[router];
    const Place there = places[destination];
    return port_of_ways[x_way[there.x + x_bias - here.x] + 4u * y_way[there.y + y_bias - here.y]];
  }
  // On the way of a packet: links + 1.
  std::uint32_t routers_visited(std::uint32_t router, std::uint32_t destination) const {
    const Place here = places[router];
    const Place there = places[destination];
    return x_links[there.x + x_bias - here.x] + y_links[there.y + y_bias - here.y] + 1u;
  }
};

struct Source {
  StreamState stream;
  Packet head;             // of the queue; may lie in the future
  std::uint16_t left = 0;  // flits of it still to inject; 0: it has not entered yet
  std::uint8_t vc = 0;     // of this packet, or the last
  bool has_vc = false;
  bool is_measured = false;
};

struct State {
  RouterConfig config;
  std::uint32_t routers = 0;
  std::uint32_t padded = 0;  // routers, rounded up to whole rows of bytes
  std::uint32_t blocks = 0;
  int capacity_bits = 0;                      // flits of a FIFO, as a power of two
  std::uint32_t wheel = 0;                    // slots, a power of two
  std::array<std::int32_t, kLocal> stride{};  // router beyond output o: r + stride[o]
  Routes routes;
  Traffic traffic;

  std::vector<std::byte> block_bytes;  // Blocks, from the first multiple of kRowBytes on
  std::vector<std::uint64_t> fifo;     // [router][input VC][place]
  std::vector<std::uint8_t> read_at;   // [router][input VC]
  std::vector<std::uint8_t> write_at;  // [router][output VC, then the source's]
  std::vector<std::uint8_t> arrivals;  // wheel, [slot][input port][router]: 16 * port + vc + 1
  std::vector<std::uint8_t> credits;   // wheel, [slot][credit group][router]: vc + 1
  std::vector<Cycle> wake;             // [router] when the source acts next
  std::vector<Source> sources;

  bool is_measuring = true;
  Cycle drain_start = kNever;  // packets generated from here on are not measured

  template <int kVcs>
  Block<kVcs>* blocks_of() {
    void* start = block_bytes.data();
    std::size_t space = block_bytes.size();
    return static_cast<Block<kVcs>*>(std::align(kRowBytes, 1, start, space));
  }
  std::uint8_t* arrivals_at(Cycle cycle, int port) {
    return arrivals.data() + std::size_t{(cycle & (wheel - 1)) * kPorts + port} * padded;
  }
  std::uint8_t* credits_at(Cycle cycle, int group) {
    return credits.data() + std::size_t{(cycle & (wheel - 1)) * kCreditGroups + group} * padded;
  }
};

}  // namespace dojo::mesh::internal
