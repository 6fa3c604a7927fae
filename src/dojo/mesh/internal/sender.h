// The last stage of a cycle: granted flits go into the next FIFO, or to their node. In dimension
// order for as many routers at once as a vector has lanes; one router at a time over long links,
// and everywhere where a table routes or routers copy packets.
#pragma once

#include "dojo/mesh/internal/flit_lanes.h"
#include "dojo/mesh/internal/lanes.h"
#include "dojo/mesh/internal/masks.h"
#include "dojo/mesh/internal/one_router.h"

namespace dojo::mesh::internal::DOJO_MESH_ISA {

template <int kVcs>
class Sender : private Masks<kVcs> {
 public:
  using B = Block<kVcs>;
  using Word = typename B::Word;
  using L = Lanes<Word>;
  using Vec = typename L::Vec;
  static constexpr int kLanes = B::kLanes;
  static constexpr int kInputs = B::kInputs;

  Sender(State& state, Counters& counters, const Scratch<kVcs>& scratch, OneRouter<kVcs>& one)
      : s_(state), counters_(counters), x_(scratch), one_(one) {}

  void run(B& b, std::uint32_t block, Cycle now) {
    now_ = now;
    first_ = block * kLanes;
    if (!s_.longs.empty()) {
      std::copy_n(s_.longs.in_lanes[block].begin(), kLocal, long_in_.begin());
      std::copy_n(s_.longs.out_lanes[block].begin(), kLocal, single_.begin());
    }
    if (s_.table != nullptr || s_.trees != nullptr) {
      single_.fill((1u << kLanes) - 1);
    }
    if (s_.order.has_exits()) {
      send_all<DimensionOrder::AxesAndExit>(b);
    } else {
      send_all<DimensionOrder::Axes>(b);
    }
    give_credits();
    advance(b);
    if (s_.trees != nullptr) {
      begin_next_classes(b);
    }
    end_packets(b);
  }

  // Places in FIFOs move on: of what left, and of what came in their stead. Also when only sources
  // sent.
  void advance(B& b) {
    for (int lane = 0; lane < kLanes; lane += L::kCount) {
      M::add_to(b.read_at, lane, L::load(&x_.popped[lane]), s_.capacity_bits);
      M::add_to(b.write_at, lane, L::load(&x_.used[lane]), s_.capacity_bits);
    }
  }

  // A flit comes to the front of each of these input VCs.
  void start_heads(B& b, std::uint32_t first, int from, Vec heads) {
    alignas(kRowBytes) std::array<Word, L::kCount> of_lane{};
    L::store(of_lane.data(), heads);
    for (std::uint32_t lanes = L::nonzero(heads); lanes != 0; lanes &= lanes - 1) {
      const int lane = std::countr_zero(lanes);
      for (Word each = of_lane[lane]; each != 0; each &= each - 1) {
        one_.start_head(b, first + from + lane, from + lane, std::countr_zero(each));
      }
    }
  }

 private:
  using M = Masks<kVcs>;
  using M::bit, M::group;
  using F = FlitLanes<Word>;

  // Of lanes that send by one output.
  struct Taken {
    typename F::Flits flits;
    Vec output_vc;  // in the port
  };
  // Of one router.
  struct One {
    std::uint64_t flit;
    std::uint32_t router;
    std::uint32_t input;      // VC
    std::uint32_t output_vc;  // in the port
  };

  template <class Axes>
  void send_all(const B& b) {
    tails_ = {};
    for (int lane = 0; lane < kLanes; lane += L::kCount) {
      const Vec routers = routers_of(lane);
      send_by<kEast, Axes>(b, lane, routers);
      send_by<kWest, Axes>(b, lane, routers);
      send_by<kSouth, Axes>(b, lane, routers);
      send_by<kNorth, Axes>(b, lane, routers);
      eject(b, lane, routers);
    }
    for (int o = 0; o < kPorts; ++o) {
      for (std::uint32_t lanes = x_.movers[o] & single_[o]; lanes != 0; lanes &= lanes - 1) {
        send_one(b, std::countr_zero(lanes), o);
      }
    }
  }

  Vec routers_of(int lane) const {
    return L::all(Word{first_} + static_cast<Word>(lane)) + L::numbers();
  }

  // The lanes of a vector that send by the output and are looked at together.
  std::uint32_t movers(int lane, int output) const {
    return ((x_.movers[output] & ~single_[output]) >> lane) & ((1u << L::kCount) - 1);
  }

  // What the counter counts of the one VC in each lane.
  Vec place(const typename M::Planes& planes, int lane, Vec vc) const {
    Vec place{};
    for (std::size_t k = 0; k < kPlanes; ++k) {
      const Vec has = L::load(&planes[k][lane]) & vc;
      place |= has != 0 ? L::all(Word{1} << k) : Vec{};
    }
    return place;
  }

  // Of the front flits of one input VC in each lane.
  Vec places(const typename M::Planes& read_at, int lane, Vec routers, Vec input) const {
    const Vec fifo = routers * L::all(kInputs) + L::bit_number(input);
    return (fifo << s_.capacity_bits) + place(read_at, lane, input);
  }

  Taken take(const B& b, int lane, int output, Vec routers, std::uint32_t lanes) {
    const Vec input = L::load(&x_.moved[output][lane]);
    Taken taken{};
    taken.flits = F::gather(s_.fifo.data(), places(b.read_at, lane, routers, input), lanes);
    const Vec used = L::load(&x_.used[lane]) & L::all(group(output));
    taken.output_vc = L::bit_number(used) - L::all(static_cast<Word>(output) * kVcs);
    tails_[output] |= F::with_any(taken.flits, std::uint64_t{1} << Flit::kTailShift) << lane;
    return taken;
  }

  template <int kOutput, class Axes>
  void send_by(const B& b, int lane, Vec routers) {
    const std::uint32_t lanes = movers(lane, kOutput);
    if (lanes == 0) {
      return;
    }
    Taken taken = take(b, lane, kOutput, routers, lanes);
    for (auto& part : taken.flits.part) {
      part -= s_.order.step[kOutput];
    }
    const typename F::Flits ports =
        F::ports_left(taken.flits, static_cast<const Axes&>(s_.order.axes));
    for (int i = 0; i < F::kParts; ++i) {
      auto& part = taken.flits.part[i];
      part = (part & ~Flit::kPortMask) | (ports.part[i] << Flit::kPortShift);
    }
    const std::int32_t stride = s_.stride[kOutput];
    const Vec used = L::load(&x_.used[lane]) & L::all(group(kOutput));
    // Of router 0's neighbour; it wraps round to the right number.
    const auto input = static_cast<Word>(stride) * kInputs + (kOutput ^ 1) * kVcs;
    const Vec fifo = routers * L::all(kInputs) + L::all(input) + taken.output_vc;
    F::scatter(s_.fifo.data(), (fifo << s_.capacity_bits) + place(b.write_at, lane, used), lanes,
               taken.flits);
    L::store_bytes(
        s_.arrivals_at(now_ + s_.config.flit_delay, kOutput ^ 1) + first_ + lane + stride, lanes,
        (F::to_words(ports) << 4) | (taken.output_vc + L::all(1)));
  }

  void eject(const B& b, int lane, Vec routers) {
    const std::uint32_t lanes = movers(lane, kLocal);
    if (lanes == 0) {
      return;
    }
    const Taken taken = take(b, lane, kLocal, routers, lanes);
    const Cycle arrival = now_ + s_.config.eject_delay;
    L::store_bytes(s_.credits_at(now_ + s_.config.eject_credit_delay, kLocal) + first_ + lane,
                   lanes, taken.output_vc + L::all(1));
    alignas(kRowBytes) std::array<std::uint64_t, L::kCount> flits{};
    F::store(flits.data(), taken.flits);
    for (std::uint32_t left = lanes; left != 0; left &= left - 1) {
      const int each = std::countr_zero(left);
      const std::uint64_t flit = flits[each];
      if (s_.messages != nullptr) {
        const auto id = static_cast<std::uint32_t>(flit >> Flit::kGeneratedShift);
        count_message(flit, first_ + lane + each, id, arrival);
      } else {
        count(flit, arrival);
      }
    }
  }

  One take_one(const B& b, int lane, int output) {
    const std::uint32_t router = first_ + lane;
    const auto input = static_cast<std::uint32_t>(std::countr_zero(x_.moved[output][lane]));
    const std::uint64_t flit = one_.front(b, router, lane, static_cast<int>(input));
    tails_[output] |= (static_cast<std::uint32_t>(flit >> Flit::kTailShift) & 1u) << lane;
    const int vc = std::countr_zero(static_cast<Word>(x_.used[lane] >> (output * kVcs)));
    return {flit, router, input, static_cast<std::uint32_t>(vc)};
  }

  void send_one(const B& b, int lane, int output) {
    const One taken = take_one(b, lane, output);
    if (output == kLocal) {
      s_.credits_at(now_ + s_.config.eject_credit_delay, kLocal)[taken.router] =
          static_cast<std::uint8_t>(taken.output_vc + 1);
      const Cycle arrival = now_ + s_.config.eject_delay;
      if (s_.messages != nullptr) {
        count_message(taken.flit, taken.router, message_of(b, lane, taken), arrival);
      } else {
        count(taken.flit, arrival);
      }
      return;
    }
    const LongLinks& longs = s_.longs;
    const std::uint32_t link =
        longs.empty() ? LongLinks::kNone : longs.out_of[taken.router * kLocal + output];
    if (link != LongLinks::kNone) {
      one_.send(link, onward(b, lane, taken, output, longs.senders[link].step), taken.output_vc,
                now_);
      return;
    }
    const std::uint64_t flit = onward(b, lane, taken, output, s_.order.step[output]);
    const std::uint32_t there = taken.router + s_.stride[output];
    const std::uint32_t fifo = there * kInputs + (output ^ 1) * kVcs + taken.output_vc;
    const int output_vc = output * kVcs + static_cast<int>(taken.output_vc);
    s_.fifo[(std::size_t{fifo} << s_.capacity_bits) + B::count(b.write_at, lane, output_vc)] = flit;
    s_.arrivals_at(now_ + s_.config.flit_delay, output ^ 1)[there] =
        static_cast<std::uint8_t>((Flit::port(flit) << 4) | (taken.output_vc + 1));
  }

  // The flit as it is at the next router; `step`: what the link takes from it.
  std::uint64_t onward(const B& b, int lane, const One& taken, int output,
                       std::uint64_t step) const {
    if (Flit::is_copied(taken.flit)) {
      const auto input = static_cast<int>(taken.input);
      return Flit::to_copy_at(taken.flit, one_.branch(b, taken.router, lane, input, output).next);
    }
    if (s_.table != nullptr) {
      const std::uint64_t vc_class = s_.class_of_vc[taken.output_vc];
      return (taken.flit & ~(std::uint64_t{3} << Flit::kClassShift)) |
             (vc_class << Flit::kClassShift);
    }
    const std::uint64_t flit = taken.flit - step;
    return Flit::with_port(flit, s_.order.port_left(flit));
  }

  // The slots of flits that left.
  void give_credits() {
    for (int lane = 0; lane < kLanes; lane += L::kCount) {
      const Vec popped = L::load(&x_.popped[lane]);
      for (int p = 0; p < kPorts; ++p) {
        const Vec input = popped & L::all(group(p));
        const std::uint32_t lanes = L::nonzero(input);
        const std::uint32_t over_long = lanes & (long_in_[p] >> lane);
        const Vec credit = L::bit_number(input) - L::all(static_cast<Word>(p) * kVcs) + L::all(1);
        std::uint8_t* const to =
            p == kLocal ? s_.credits_at(now_ + s_.config.source_credit_delay, kSourceGroup)
                        : s_.credits_at(now_ + s_.config.credit_delay, p ^ 1) + s_.stride[p];
        L::store_bytes(to + first_ + lane, lanes & ~over_long, credit);
        for (std::uint32_t left = over_long; left != 0; left &= left - 1) {
          give_long_credit(lane + std::countr_zero(left), p);
        }
      }
    }
  }

  void give_long_credit(int lane, int side) {
    const LongReceiver& link = s_.longs.receivers[s_.longs.into[(first_ + lane) * kLocal + side]];
    const Cycle due = now_ + static_cast<Cycle>(s_.config.credit_delay) + link.delay;
    const int vc = std::countr_zero(static_cast<Word>(x_.popped[lane] >> (side * kVcs)));
    s_.longs.credits_at(due)[link.sender] = static_cast<std::uint8_t>(vc + 1);
  }

  void begin_next_classes(B& b) {
    for (int lane = 0; lane < kLanes; ++lane) {
      for (Word kept = x_.kept[lane]; kept != 0; kept &= kept - 1) {
        one_.begin_next_class(b, first_ + lane, lane, std::countr_zero(kept));
      }
    }
  }

  // Where a tail left, its VCs are free again; a flit behind it is the head of the next packet.
  void end_packets(B& b) {
    for (int lane = 0; lane < kLanes; lane += L::kCount) {
      Vec ended{};
      Vec freed{};
      for (int o = 0; o < kPorts; ++o) {
        ended |= L::keep(tails_[o] >> lane, L::load(&x_.moved[o][lane]));
        freed |= L::keep(tails_[o] >> lane, L::load(&x_.used[lane]) & L::all(group(o)));
      }
      ended &= L::load(&x_.popped[lane]);
      L::store(&b.active[lane], L::load(&b.active[lane]) & ~ended);
      L::store(&b.busy[lane], L::load(&b.busy[lane]) & ~freed);
      const Vec heads = ended & L::load(&x_.more[lane]);
      if (s_.table != nullptr || s_.trees != nullptr) {
        start_heads(b, first_, lane, heads);
      } else {
        start_heads_together(b, lane, heads);
      }
    }
  }

  // The same in dimension order, at most one for each input port: the flits say where they go.
  void start_heads_together(B& b, int lane, Vec heads) {
    const Vec routers = routers_of(lane);
    for (int p = 0; p < kPorts; ++p) {
      const Vec head = heads & L::all(group(p));
      const std::uint32_t lanes = L::nonzero(head);
      if (lanes == 0) {
        continue;
      }
      typename F::Flits flits =
          F::gather(s_.fifo.data(), places(b.read_at, lane, routers, head), lanes);
      for (auto& part : flits.part) {
        part = (part & Flit::kPortMask) >> Flit::kPortShift;
      }
      const Vec ports = F::to_words(flits);
      for (int o = 0; o < kPorts; ++o) {
        auto& row = b.waiting[static_cast<std::size_t>(o)];
        const Vec waits = ports == L::all(static_cast<Word>(o)) ? head : Vec{};
        L::store(&row[lane], L::load(&row[lane]) | waits);
      }
    }
  }

  // What MessageSource::arrived wants to know.
  std::uint32_t message_of(const B& b, int lane, const One& taken) const {
    const auto id = static_cast<std::uint32_t>(taken.flit >> Flit::kGeneratedShift);
    const auto input = static_cast<int>(taken.input);
    return Flit::is_copied(taken.flit)
               ? s_.messages->id_at(id, one_.branch(b, taken.router, lane, input, kLocal).next)
               : id;
  }

  void count_message(std::uint64_t flit, std::uint32_t router, std::uint32_t message,
                     Cycle arrival) {
    ++counters_.flits;
    counters_.flit_latency_sum += Flit::since_injected(flit, arrival);
    counters_.last_arrival = arrival;
    if (((flit >> Flit::kTailShift) & 1u) != 0) {
      ++counters_.packets;
      const Cycle next = s_.messages->arrived(message, arrival);
      s_.wake[router] = std::min(s_.wake[router], next);
    }
  }

  void count(std::uint64_t flit, Cycle arrival) {
    const std::uint32_t latency = Flit::since_generated(flit, arrival);
    ++counters_.flits;
    counters_.flit_latency_sum += Flit::since_injected(flit, arrival);
    counters_.flit_generated_sum += arrival - latency;
    counters_.last_arrival = arrival;
    const std::uint32_t tail_and_mark = (flit >> Flit::kTailShift) & 3u;
    if (tail_and_mark == (1u | (s_.counted_mark << 1))) {
      ++counters_.packets;
      counters_.latency_sum += latency;
      counters_.latency_square_sum += std::uint64_t{latency} * latency;
      counters_.latency_max = std::max(counters_.latency_max, latency);
      counters_.histogram.add(latency);
    }
  }

  State& s_;
  Counters& counters_;
  const Scratch<kVcs>& x_;
  OneRouter<kVcs>& one_;
  Cycle now_ = 0;
  std::uint32_t first_ = 0;                      // router of lane 0
  std::array<std::uint32_t, kPorts> long_in_{};  // lanes, by side; none at kLocal
  std::array<std::uint32_t, kPorts> single_{};   // by output: lanes that send one at a time
  std::array<std::uint32_t, kPorts> tails_{};    // by output: lanes that sent a tail
};

}  // namespace dojo::mesh::internal::DOJO_MESH_ISA
