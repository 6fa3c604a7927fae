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
// sender where it writes, as bit planes too, and nobody counts but the planes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "dojo/mesh/counters.h"
#include "dojo/mesh/internal/big_vector.h"
#include "dojo/mesh/router_config.h"
#include "dojo/mesh/routing.h"
#include "dojo/mesh/topology.h"
#include "dojo/mesh/traffic.h"

namespace dojo::mesh::internal {

class CopyTrees;
class MessageSource;

inline constexpr int kPlanes = 4;        // counters up to 15
inline constexpr int kCreditGroups = 6;  // five output ports, and the source as a sixth
inline constexpr int kSourceGroup = kPorts;
inline constexpr int kRowBytes = 64;
inline constexpr int kMaxClasses = 4;

template <int kVcs>
struct alignas(kRowBytes) Block {
  using Word = std::conditional_t<kCreditGroups * kVcs <= 32, std::uint32_t, std::uint64_t>;
  static constexpr int kLanes = kRowBytes / sizeof(Word);
  static constexpr int kInputs = kPorts * kVcs;
  using Row = std::array<Word, kLanes>;

  // Input VCs. An idle VC is in none of the masks, and its FIFO is empty.
  std::array<Row, 8> waiting;        // by output port; rows 5 to 7 are never read
  Row active;                        // own an output VC
  std::array<Row, kPlanes> queued;   // flits in the FIFO
  std::array<Row, kPlanes> read_at;  // place of the FIFO's front
  // Output VCs; slots: also those of the source at input kLocal.
  Row busy;
  std::array<Row, kPlanes> slots;     // free slots of the FIFO behind
  std::array<Row, kPlanes> write_at;  // place to write next in it; not over long links
  // VC allocation, per output VC.
  std::array<Row, kInputs> last;     // inputs that accepted it last
  std::array<Row, kInputs> vc_from;  // grant pointer
  // Switch allocation: bit port * V stands for an input port.
  std::array<Row, kPorts> port_last;  // inputs that accepted this output last
  std::array<Row, kPorts> port_from;  // grant pointer, per output
  // Only where a table routes, or VCs are in classes.
  std::array<Row, kMaxClasses> in_class;  // waiting input VCs whose packet goes on in the class
  Row adaptive;                           // waiting input VCs that may take several outputs
  Row vc_next;                            // within each port's group: the VCs from next_vc on
  std::array<Row, kPorts> sent;           // flits by output port

  bool has_queued(std::size_t lane, int input) const {
    Word any = 0;
    for (const Row& plane : queued) {
      any |= plane[lane];
    }
    return ((any >> input) & 1u) != 0;
  }
  static std::uint32_t count(const std::array<Row, kPlanes>& planes, std::size_t lane, int vc) {
    std::uint32_t sum = 0;
    for (std::size_t plane = 0; plane < kPlanes; ++plane) {
      sum |= (static_cast<std::uint32_t>(planes[plane][lane] >> vc) & 1u) << plane;
    }
    return sum;
  }
};

// Beside the Block, where routers copy packets to several nodes (copy_trees.h). Such a packet is
// one flit. While it is in front of its input VC, that is none of `active`, and asks and owns for
// all copies of one class at once: `waiting` says at which outputs it waits for an output VC.
template <int kVcs>
struct alignas(kRowBytes) CopyBlock {
  using Row = typename Block<kVcs>::Row;

  Row copying;                                     // input VCs with such a flit in front
  Row later;                                       // those that have copies of further classes
  std::array<Row, Block<kVcs>::kInputs> owned_by;  // by output VC: the one of them that owns it
};

// One flit in a word, from the lowest bit:
//   [way 16][ports 4][port 3][tail 1][mark 1][injected 17][generated 22]
// `port` is the output at the router that has the flit (or is about to have it). `way` is the links
// still to cross: along the first axis in the low bits, above them along the second, by the two
// `ports` of two bits each. With edge ports the top bit of `way` is a link off the grid, and
// `ports` are two directions (1: of falling positions) and the side of that link. Where a table
// routes, `way` is the destination, the low two of `ports` the class in which the packet comes, and
// `port` says nothing, unless it is kCopyPort: the flit goes to several nodes, and the low 20 bits
// are its place in the CopyTrees. Times are modulo.
struct Flit {
  static constexpr int kWayBits = 16;
  static constexpr int kFirstShift = 16;
  static constexpr int kSecondShift = 18;
  static constexpr int kFirstBackShift = 16;  // with edge ports
  static constexpr int kSecondBackShift = 17;
  static constexpr int kExitShift = 18;
  static constexpr int kClassShift = 16;
  static constexpr int kPortShift = 20;
  static constexpr int kTailShift = 23;
  static constexpr int kMarkShift = 24;
  static constexpr int kInjectedShift = 25;
  static constexpr int kGeneratedShift = 42;
  static constexpr std::uint32_t kInjectedMask = (1u << 17) - 1;
  static constexpr std::uint32_t kGeneratedMask = (1u << 22) - 1;
  static constexpr std::uint32_t kCopyPort = 5;
  static constexpr std::uint64_t kPlaceMask = (std::uint64_t{1} << kPortShift) - 1;
  static constexpr std::uint64_t kPortMask = std::uint64_t{7} << kPortShift;

  static std::uint64_t times(Cycle injected, Cycle generated) {
    return (std::uint64_t{injected & kInjectedMask} << kInjectedShift) |
           (std::uint64_t{generated & kGeneratedMask} << kGeneratedShift);
  }
  static std::uint32_t way(std::uint64_t flit) { return flit & 0xFFFFu; }
  static std::uint32_t port(std::uint64_t flit) { return (flit >> kPortShift) & 7u; }
  static std::uint64_t with_port(std::uint64_t flit, std::uint32_t port) {
    return (flit & ~kPortMask) | (std::uint64_t{port} << kPortShift);
  }
  static bool is_copied(std::uint64_t flit) { return port(flit) == kCopyPort; }
  static std::uint32_t copy_place(std::uint64_t flit) {
    return static_cast<std::uint32_t>(flit & kPlaceMask);
  }
  static std::uint64_t to_copy_at(std::uint64_t flit, std::uint32_t place) {
    return with_port((flit & ~kPlaceMask) | place, kCopyPort);
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

// Where packets go in dimension order: the flit says how many links are left.
struct DimensionOrder {
  struct Place {
    std::uint16_t row = 0;
    std::uint16_t column = 0;
  };
  struct EdgePort {
    std::uint32_t router = 0;  // of the grid
    std::uint32_t side = 0;
  };
  struct Start {
    std::uint64_t flit = 0;  // way and ports
    std::uint32_t links = 0;
  };

  // Where a flit goes next; on a network without edge ports.
  struct Axes {
    std::uint64_t first_mask = 0;  // of a flit: links left along the first axis
    std::uint64_t second_mask = 0;

    std::uint32_t port_left(std::uint64_t flit) const {
      const std::uint32_t first = (flit >> Flit::kFirstShift) & 3u;
      const std::uint32_t second = (flit >> Flit::kSecondShift) & 3u;
      const std::uint32_t then = (flit & second_mask) != 0 ? second : std::uint32_t{kLocal};
      return (flit & first_mask) != 0 ? first : then;
    }
  };
  // With edge ports.
  struct AxesAndExit : Axes {
    static constexpr std::uint64_t kExitMask = std::uint64_t{1} << (Flit::kWayBits - 1);
    std::uint32_t first_port = 0;  // of growing positions
    std::uint32_t second_port = 0;

    std::uint32_t port_left(std::uint64_t flit) const {
      const std::uint32_t first = first_port | ((flit >> Flit::kFirstBackShift) & 1u);
      const std::uint32_t second = second_port | ((flit >> Flit::kSecondBackShift) & 1u);
      const std::uint32_t exit = (flit >> Flit::kExitShift) & 3u;
      const std::uint32_t last = (flit & kExitMask) != 0 ? exit : std::uint32_t{kLocal};
      const std::uint32_t then = (flit & second_mask) != 0 ? second : last;
      return (flit & first_mask) != 0 ? first : then;
    }
  };

  RoutingKind kind = RoutingKind::XFirst;
  std::uint32_t grid_routers = 0;
  std::vector<Place> places;         // by router of the grid: dividing takes longer
  std::vector<EdgePort> edge_ports;  // the routers beyond the grid, in order
  AxesAndExit axes;
  std::array<std::uint64_t, kLocal> step{};  // what a flit loses when it crosses a link by a port

  bool has_exits() const { return !edge_ports.empty(); }
  std::uint32_t port_left(std::uint64_t flit) const {
    return has_exits() ? axes.port_left(flit) : axes.Axes::port_left(flit);
  }
  // Of a packet at its source.
  Start start(std::uint32_t router, std::uint32_t destination) const;
};

// A link that is not one cycle to a neighbour at full rate: between dies, round a torus, to an edge
// port, or with a buffer of a stated size. Its flits go straight into a deep FIFO of their VC; the
// receiving router's own FIFO is refilled from it whenever it has place, which the router cannot
// tell from one deep FIFO. Bytes in wheels of its own say when flits and credits are there. Here is
// what its sender uses.
struct LongSender {
  std::uint32_t from = 0;
  std::uint32_t receiver = 0;  // its LongReceiver
  std::uint8_t out = 0;
  std::uint16_t delay = 0;  // of flits, beyond RouterConfig
  std::int32_t num = 1;     // flits per `den` cycles
  std::int32_t den = 1;
  std::int32_t reserved = 0;   // slots of each VC alone
  std::int32_t shared = 0;     // slots that any VC may use
  std::uint64_t step = 0;      // what a flit loses in dimension order
  std::size_t first_flit = 0;  // of LongLinks::flits, VC after VC

  Cycle counted = 0;
  std::int32_t account = 0;  // as of cycle `counted`
  std::int32_t shared_used = 0;
  std::array<std::uint16_t, kMaxVcs> used{};
  std::array<std::uint16_t, kMaxVcs> write_at{};
};

// The same link's other end.
struct LongReceiver {
  std::uint32_t to = 0;
  std::uint32_t sender = 0;  // its LongSender
  std::uint8_t in = 0;
  std::uint16_t delay = 0;  // of credits, beyond RouterConfig
  std::size_t first_flit = 0;

  std::array<std::uint16_t, kMaxVcs> read_at{};
  std::array<std::uint16_t, kMaxVcs> queued{};  // arrived, not yet in the router's FIFO
  std::array<std::uint8_t, kMaxVcs> place{};    // in the router's FIFO, to write next
};

// Senders are in the order of the routers they leave, receivers of those they come to, so those of
// a block are neighbours, and so are their bytes in the wheels.
struct LongLinks {
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  std::vector<LongSender> senders;
  std::vector<LongReceiver> receivers;
  int depth_bits = 0;       // flits of a VC, as a power of two
  std::uint32_t wheel = 0;  // slots, a power of two
  BigVector<std::uint64_t> flits;
  BigVector<std::uint8_t> arrivals;   // [slot][receiver]: vc + 1
  BigVector<std::uint8_t> credits;    // [slot][sender]: vc + 1
  std::vector<std::uint32_t> queued;  // [receiver] flits in all its VCs
  std::vector<Cycle> offer_at;        // [sender] when what it may send changes, but for credits
  // By router and side, or kNone; empty if there are none at all.
  std::vector<std::uint32_t> out_of;
  std::vector<std::uint32_t> into;
  // By block: its first sender (receiver), and one entry more; by block and side: the lanes that
  // have one.
  std::vector<std::uint32_t> first_sender;
  std::vector<std::uint32_t> first_receiver;
  std::vector<std::array<std::uint32_t, kLocal>> out_lanes;
  std::vector<std::array<std::uint32_t, kLocal>> in_lanes;

  bool empty() const { return senders.empty(); }
  std::uint8_t* arrivals_at(Cycle cycle) {
    return arrivals.data() + std::size_t{cycle & (wheel - 1)} * receivers.size();
  }
  std::uint8_t* credits_at(Cycle cycle) {
    return credits.data() + std::size_t{cycle & (wheel - 1)} * senders.size();
  }
};

struct Source {
  StreamState stream;
  Packet head;             // of the queue; may lie in the future
  std::uint64_t flit = 0;  // what its flits have in common, but for the time of injection
  std::uint16_t left = 0;  // flits of it still to inject; 0: it has not entered yet
  std::uint8_t vc = 0;     // of this packet, or the last
  bool has_vc = false;
};

struct State {
  RouterConfig config;
  std::uint32_t routers = 0;
  std::uint32_t columns = 0;  // of the grid
  std::uint32_t sites = 0;
  int planes = 1;
  std::uint32_t padded = 0;  // routers, rounded up to whole rows of bytes
  std::uint32_t blocks = 0;
  int capacity_bits = 0;                      // flits of a FIFO, as a power of two
  std::uint32_t wheel = 0;                    // slots, a power of two
  std::array<std::int32_t, kLocal> stride{};  // router beyond output o: r + stride[o]
  DimensionOrder order;                       // unless there is a table
  const RoutingTable* table = nullptr;        // instead of dimension order
  std::array<std::uint8_t, kMaxVcs> class_of_vc{};
  int classes = 1;
  LongLinks longs;
  Traffic traffic;
  MessageSource* messages = nullptr;  // instead of the traffic
  const CopyTrees* trees = nullptr;   // if routers copy packets

  BigVector<std::byte> block_bytes;   // Blocks, from the first multiple of kRowBytes on
  BigVector<std::uint64_t> fifo;      // [router][input VC][place]
  BigVector<std::uint8_t> source_at;  // [router][VC] place to write next of input kLocal
  BigVector<std::uint8_t> arrivals;   // wheel, [slot][input port][router]: 16 * port + vc + 1
  BigVector<std::uint8_t> credits;    // wheel, [slot][credit group][router]: vc + 1
  std::vector<std::uint8_t> choices;  // [router][input VC] of adaptive ones: bits of ports
  BigVector<std::byte> copy_bytes;    // CopyBlocks likewise, if routers copy
  BigVector<std::uint8_t> next_copy;  // [router][input VC] of a copied flit's branches: not begun
  std::vector<std::uint8_t> stirred;  // [block] it has a flit, or a slower link's rate to wait for
  BigVector<Cycle> wake;              // [router] when the source acts next
  BigVector<Source> sources;
  std::vector<std::uint32_t> nodes;  // sites of the grid that have one

  std::uint32_t counted_mark = 1;  // 0 or 1: the packets that count have it, the others have not
  Cycle drain_start = kNever;      // packets generated from here on do not count

  // The bits of a flit that say where it goes.
  std::uint64_t route(std::uint32_t source, std::uint32_t target) const {
    return table == nullptr ? order.start(source, target).flit : target;
  }

  static std::span<std::byte> aligned(BigVector<std::byte>& bytes) {
    void* start = bytes.data();
    std::size_t space = bytes.size();
    std::align(kRowBytes, 1, start, space);
    return {static_cast<std::byte*>(start), bytes.size() - kRowBytes};
  }
  std::span<std::byte> aligned_blocks() { return aligned(block_bytes); }
  template <int kVcs>
  Block<kVcs>* blocks_of() {
    return reinterpret_cast<Block<kVcs>*>(aligned_blocks().data());
  }
  template <int kVcs>
  CopyBlock<kVcs>* copy_blocks_of() {
    return reinterpret_cast<CopyBlock<kVcs>*>(aligned(copy_bytes).data());
  }
  std::uint8_t* arrivals_at(Cycle cycle, int port) {
    return arrivals.data() + std::size_t{(cycle & (wheel - 1)) * kPorts + port} * padded;
  }
  std::uint8_t* credits_at(Cycle cycle, int group) {
    return credits.data() + std::size_t{(cycle & (wheel - 1)) * kCreditGroups + group} * padded;
  }
};

}  // namespace dojo::mesh::internal
