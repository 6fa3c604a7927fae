// What cycle.h does for one router at a time, because vectors cannot: heads that a table routes,
// outputs that are chosen anew in each cycle, packets that are copied, and long links.
#pragma once

#include "dojo/mesh/internal/lanes.h"

namespace dojo::mesh::internal::DOJO_MESH_ISA {

template <int kVcs>
class OneRouter {
 public:
  using B = Block<kVcs>;
  using Word = typename B::Word;
  static constexpr int kInputs = B::kInputs;

  explicit OneRouter(State& state) : s_(state) {}

  // The flit at the front of an input VC.
  std::uint64_t front(const B& b, std::uint32_t router, int lane, int input) const {
    const std::size_t fifo = router * kInputs + static_cast<std::uint32_t>(input);
    return s_.fifo[(fifo << s_.capacity_bits) + B::count(b.read_at, lane, input)];
  }

  // It is a head: it waits for an output VC.
  void start_head(B& b, std::uint32_t router, int lane, int input) {
    const std::uint64_t flit = front(b, router, lane, input);
    const Word bit = Word{1} << input;
    if (Flit::is_copied(flit)) {
      start_copies(b, router, lane, input, 0);
      return;
    }
    if (s_.table == nullptr) {
      b.waiting[Flit::port(flit)][lane] |= bit;
      return;
    }
    const auto in = static_cast<Port>(input / kVcs);
    const auto came_in_class = static_cast<int>((flit >> Flit::kClassShift) & 3u);
    const Choices choices = s_.table->choices({router}, in, came_in_class, {Flit::way(flit)});
    for (typename B::Row& row : b.in_class) {
      row[lane] &= ~bit;
    }
    b.in_class[choices.vc_class][lane] |= bit;
    b.waiting[index(preferred(choices.ports, in))][lane] |= bit;
    b.adaptive[lane] &= ~bit;
    if ((choices.ports.bits & (choices.ports.bits - 1)) != 0) {
      b.adaptive[lane] |= bit;
      s_.choices[router * kInputs + static_cast<std::uint32_t>(input)] = choices.ports.bits;
    }
  }

  // A packet to several nodes is in front of an input VC: its copies from that branch on, as far as
  // they are of one class, wait for their output VCs.
  void start_copies(B& b, std::uint32_t router, int lane, int input, std::size_t from) {
    const std::size_t fifo = router * kInputs + static_cast<std::uint32_t>(input);
    const Word bit = Word{1} << input;
    C& copies = s_.copy_blocks_of<kVcs>()[router / B::kLanes];
    const std::span<const CopyTrees::Branch> all = branches(b, router, lane, input);
    std::size_t next = from;
    for (; next < all.size() && all[next].vc_class == all[from].vc_class; ++next) {
      b.waiting[all[next].out][lane] |= bit;
    }
    for (typename B::Row& row : b.in_class) {
      row[lane] &= ~bit;
    }
    b.in_class[all[from].vc_class][lane] |= bit;
    b.adaptive[lane] &= ~bit;
    copies.copying[lane] |= bit;
    copies.later[lane] &= ~bit;
    copies.later[lane] |= next < all.size() ? bit : 0;
    s_.next_copy[fifo] = static_cast<std::uint8_t>(next);
  }

  // Begins the copies of the next class if all that have begun have left.
  void begin_next_class(B& b, std::uint32_t router, int lane, int input) {
    const C& copies = s_.copy_blocks_of<kVcs>()[router / B::kLanes];
    const Word bit = Word{1} << input;
    Word begun = 0;
    for (int o = 0; o < kPorts; ++o) {
      begun |= b.waiting[o][lane];
      for (int vc = 0; vc < kVcs; ++vc) {
        begun |= copies.owned_by[o * kVcs + vc][lane];
      }
    }
    if ((begun & bit) == 0) {
      start_copies(b, router, lane, input,
                   s_.next_copy[router * kInputs + static_cast<std::uint32_t>(input)]);
    }
  }

  // The copy by an output of those that have begun last.
  const CopyTrees::Branch& branch(const B& b, std::uint32_t router, int lane, int input,
                                  int output) const {
    const std::span<const CopyTrees::Branch> all = branches(b, router, lane, input);
    std::size_t at = s_.next_copy[router * kInputs + static_cast<std::uint32_t>(input)] - 1;
    while (all[at].out != output) {
      --at;
    }
    return all[at];
  }

  // Of several outputs a waiting head takes the one with most free slots in free VCs of its class;
  // among equals straight on, then the lowest port.
  void choose_outputs(B& b, std::uint32_t router, int lane) {
    for (Word heads = b.adaptive[lane]; heads != 0; heads &= heads - 1) {
      const Word bit = heads & -heads;
      const int input = std::countr_zero(heads);
      int now = -1;
      for (int o = 0; o < kLocal; ++o) {
        now = (b.waiting[o][lane] & bit) != 0 ? o : now;
      }
      if (now < 0) {
        b.adaptive[lane] &= ~bit;  // it got its VC
        continue;
      }
      const PortSet ports{s_.choices[router * kInputs + static_cast<std::uint32_t>(input)]};
      int best = index(preferred(ports, static_cast<Port>(input / kVcs)));
      for (const Port out : kSidePorts) {
        if (ports.has(out) &&
            free_slots(b, router, lane, index(out), bit) > free_slots(b, router, lane, best, bit)) {
          best = index(out);
        }
      }
      b.waiting[now][lane] &= ~bit;
      b.waiting[best][lane] |= bit;
    }
  }

  // Arrivals of a long link at its receiver, in the cycle in which they are due.
  void receive(B& b, std::uint32_t id, std::uint8_t& due, int lane) {
    LongReceiver& link = s_.longs.receivers[id];
    std::uint32_t& all = s_.longs.queued[id];
    if (due != 0) {
      ++link.queued[due - 1];
      ++all;
      due = 0;
    }
    for (int vc = 0; vc < kVcs; ++vc) {
      while (link.queued[vc] > 0 && refill(b, link, lane, vc)) {
        --link.queued[vc];
        --all;
      }
    }
  }

  // Credits of a long link at its sender; then what the allocators may know: in slots, one for each
  // VC that has room while the rate allows a flit.
  void offer(B& b, std::uint32_t id, std::uint8_t& due, int lane, Cycle now) {
    LongSender& link = s_.longs.senders[id];
    if (due != 0) {
      if (link.used[due - 1]-- > link.reserved) {
        --link.shared_used;
      }
      due = 0;
    }
    count_rate(link, now);
    const bool has_rate = link.account >= link.den;
    for (int vc = 0; vc < kVcs; ++vc) {
      const Word bit = Word{1} << (link.out * kVcs + vc);
      const bool may_send =
          has_rate && (link.used[vc] < link.reserved || link.shared_used < link.shared);
      for (typename B::Row& plane : b.slots) {
        plane[lane] &= ~bit;
      }
      b.slots[0][lane] |= may_send ? bit : 0;
    }
    const std::int32_t missing = link.den - link.account;
    s_.longs.offer_at[id] =
        has_rate ? kNever : now + static_cast<Cycle>((missing + link.num - 1) / link.num);
  }

  // A granted flit goes over a long link.
  void send(std::uint32_t id, std::uint64_t flit, std::uint32_t vc, Cycle now) {
    LongSender& link = s_.longs.senders[id];
    count_rate(link, now);
    link.account -= link.den;
    s_.longs.offer_at[id] = now + 1;
    if (++link.used[vc] > link.reserved) {
      ++link.shared_used;
    }
    s_.longs.flits[place_of(link.first_flit, vc, link.write_at[vc])] = flit;
    link.write_at[vc] = static_cast<std::uint16_t>((link.write_at[vc] + 1) & depth_mask());
    const Cycle due = now + static_cast<Cycle>(s_.config.flit_delay) + link.delay;
    s_.longs.arrivals_at(due)[link.receiver] = static_cast<std::uint8_t>(vc + 1);
  }

 private:
  using C = CopyBlock<kVcs>;

  // Of the packet in front of an input VC.
  std::span<const CopyTrees::Branch> branches(const B& b, std::uint32_t router, int lane,
                                              int input) const {
    return s_.trees->branches(Flit::copy_place(front(b, router, lane, input)));
  }

  std::uint32_t depth_mask() const { return (1u << s_.longs.depth_bits) - 1; }
  std::size_t place_of(std::size_t first_flit, std::uint32_t vc, std::uint32_t at) const {
    return first_flit + (std::size_t{vc} << s_.longs.depth_bits) + at;
  }
  // `num` more in each cycle, and one flit at most saved up.
  static void count_rate(LongSender& link, Cycle now) {
    const std::int64_t grown = link.account + std::int64_t{now - link.counted} * link.num;
    link.account =
        static_cast<std::int32_t>(std::min<std::int64_t>(grown, link.den + link.num - 1));
    link.counted = now;
  }

  // Moves the next flit of a deep FIFO into the router's own; false if that is full.
  bool refill(B& b, LongReceiver& link, int lane, int vc) {
    const int input = link.in * kVcs + vc;
    const int queued = static_cast<int>(B::count(b.queued, lane, input));
    if (queued == std::min(1 << s_.capacity_bits, kMaxDepth)) {
      return false;
    }
    const std::size_t fifo = link.to * kInputs + static_cast<std::uint32_t>(input);
    s_.fifo[(fifo << s_.capacity_bits) + link.place[vc]] =
        s_.longs.flits[place_of(link.first_flit, static_cast<std::uint32_t>(vc), link.read_at[vc])];
    link.place[vc] =
        static_cast<std::uint8_t>((link.place[vc] + 1) & ((1 << s_.capacity_bits) - 1));
    link.read_at[vc] = static_cast<std::uint16_t>((link.read_at[vc] + 1) & depth_mask());
    const Word bit = Word{1} << input;
    for (int plane = 0; plane < kPlanes; ++plane) {
      b.queued[plane][lane] =
          (b.queued[plane][lane] & ~bit) | (Word((queued + 1) >> plane & 1) << input);
    }
    if (queued == 0 && (b.active[lane] & bit) == 0) {
      start_head(b, link.to, lane, input);
    }
    return true;
  }

  int free_slots(const B& b, std::uint32_t router, int lane, int out, Word head) const {
    const LongSender* const link = long_link(router, out);
    int slots = link == nullptr ? 0 : link->shared - link->shared_used;
    for (int vc = 0; vc < kVcs; ++vc) {
      const bool is_in_class = (b.in_class[s_.class_of_vc[vc]][lane] & head) != 0;
      const int output = out * kVcs + vc;
      const bool is_free = ((b.busy[lane] >> output) & 1u) == 0;
      if (is_in_class && is_free) {
        slots += link == nullptr ? static_cast<int>(B::count(b.slots, lane, output))
                                 : std::max(0, link->reserved - link->used[vc]);
      }
    }
    return slots;
  }

  const LongSender* long_link(std::uint32_t router, int out) const {
    const LongLinks& longs = s_.longs;
    if (longs.out_of.empty() || longs.out_of[router * kLocal + out] == LongLinks::kNone) {
      return nullptr;
    }
    return &longs.senders[longs.out_of[router * kLocal + out]];
  }

  State& s_;
};

}  // namespace dojo::mesh::internal::DOJO_MESH_ISA
