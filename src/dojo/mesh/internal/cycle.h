// One cycle of one block of routers, stage by stage; state.h explains the data. Compiled once per
// instruction set (lanes.h says how). The stages of a cycle:
//
//   (long links       arrivals, credits and rates of the block's; one_router.h)
//   take_credits      due credits free slots of output VCs and of the sources
//   inject            sources: at most one flit each, into input kLocal
//   take_arrivals     due flits become visible; heads at the front of an idle VC wait for a VC
//   allocate_vcs      iSLIP, input VCs x output VCs      } both decide on
//   allocate_switch   iSLIP, inputs x outputs            } the state as it is now
//   commit            VC grants, then what the switch grants do to masks and counters
//   send              each granted flit goes into the next FIFO, or to its node
//
// Effects on other routers are bytes in the wheels for a later cycle, so blocks may come in any
// order.
#pragma once

#include "dojo/mesh/internal/allocators.h"
#include "dojo/mesh/internal/lanes.h"
#include "dojo/mesh/internal/masks.h"
#include "dojo/mesh/internal/one_router.h"

namespace dojo::mesh::internal::DOJO_MESH_ISA {

template <int kVcs>
class Cycles : private Masks<kVcs> {
 public:
  using B = Block<kVcs>;
  using Word = typename B::Word;
  using L = Lanes<Word>;
  using Vec = typename L::Vec;
  static constexpr int kLanes = B::kLanes;
  static constexpr int kInputs = B::kInputs;
  static constexpr int kOutputs = kCreditGroups * kVcs;  // with the source's

  Cycles(State& state, Counters& counters)
      : s_(state),
        counters_(counters),
        blocks_(state.blocks_of<kVcs>()),
        one_(state),
        allocators_(state, x_) {}

  // Blocks that are looked at together when nothing happens: a row of bytes of the wheels.
  static constexpr std::uint32_t kGroup = 4;

  // Nothing is due at the group of blocks from this one on, and nothing is left to do there.
  bool is_group_quiet(std::uint32_t block, Cycle now) const {
    std::uint32_t stirred;
    __builtin_memcpy(&stirred, &s_.stirred[block], kGroup);
    if (stirred != 0) {
      return false;
    }
    constexpr int kRouters = kGroup * kLanes;
    const std::uint32_t first = block * kLanes;
    for (int lane = 0; lane < kRouters; lane += L::kCount) {
      if (L::at_most(&s_.wake[first + lane], now) != 0) {
        return false;
      }
    }
    std::uint8_t* due[kPorts + kCreditGroups];
    for (int p = 0; p < kPorts; ++p) {
      due[p] = s_.arrivals_at(now, p) + first;
    }
    for (int g = 0; g < kCreditGroups; ++g) {
      due[kPorts + g] = s_.credits_at(now, g) + first;
    }
    return !any_bytes<kRouters>(due, kPorts + kCreditGroups) && are_long_links_quiet(block, now);
  }

  void run(std::uint32_t block, Cycle now) {
    now_ = now;
    first_ = block * kLanes;
    B& b = blocks_[block];
    const bool has_long_links = !s_.longs.empty() && serve_long_links(b, block);
    take_credits(b);
    inject();
    take_arrivals(b);
    const bool is_stirred = !is_quiet(b);
    s_.stirred[block] = is_stirred || offers_later_ ? 1 : 0;
    if (!is_stirred) {
      return;
    }
    if (s_.table != nullptr) {
      choose_outputs(b);
    }
    Word some = 0;
    if (s_.trees != nullptr) {
      C& copies = s_.copy_blocks_of<kVcs>()[block];
      for (int lane = 0; lane < kLanes; lane += L::kCount) {
        some |= allocators_.template run<true>(b, &copies, lane);
      }
    } else {
      for (int lane = 0; lane < kLanes; lane += L::kCount) {
        some |= allocators_.template run<false>(b, nullptr, lane);
      }
    }
    if (some == 0) {
      return;
    }
    if (has_long_links || s_.table != nullptr || s_.trees != nullptr) {
      send<Paths::Any>(b, block);
    } else if (s_.order.has_exits()) {
      send<Paths::Exits>(b, block);
    } else {
      send<Paths::Regular>(b, block);
    }
  }

 private:
  using M = Masks<kVcs>;
  using M::add_to, M::any_plane, M::bit, M::group, M::vc_bits;
  using Row = typename B::Row;
  using C = CopyBlock<kVcs>;

  // Regular: all links of the block are regular, and the order is by dimension. Exits: the same on
  // a network with edge ports.
  enum class Paths { Regular, Exits, Any };
  template <Paths kPaths>
  using Axes =
      std::conditional_t<kPaths == Paths::Exits, DimensionOrder::AxesAndExit, DimensionOrder::Axes>;

  bool serve_long_links(B& b, std::uint32_t block) {
    LongLinks& longs = s_.longs;
    offers_later_ = false;
    const std::uint32_t end_receiver = longs.first_receiver[block + 1];
    std::uint8_t* const arrivals = longs.arrivals_at(now_);
    for (std::uint32_t id = longs.first_receiver[block]; id < end_receiver; ++id) {
      if (arrivals[id] != 0 || longs.queued[id] != 0) {
        one_.receive(b, id, arrivals[id], static_cast<int>(longs.receivers[id].to - first_));
      }
    }
    const std::uint32_t end_sender = longs.first_sender[block + 1];
    std::uint8_t* const credits = longs.credits_at(now_);
    for (std::uint32_t id = longs.first_sender[block]; id < end_sender; ++id) {
      if (credits[id] != 0 || longs.offer_at[id] <= now_) {
        one_.offer(b, id, credits[id], static_cast<int>(longs.senders[id].from - first_), now_);
      }
      offers_later_ = offers_later_ || longs.offer_at[id] != kNever;
    }
    return longs.first_receiver[block] != end_receiver || longs.first_sender[block] != end_sender;
  }

  // No flit and no credit is due at the group's long links.
  bool are_long_links_quiet(std::uint32_t block, Cycle now) const {
    LongLinks& longs = s_.longs;
    if (longs.empty()) {
      return true;
    }
    const std::uint32_t end = std::min(block + kGroup, s_.blocks);
    const auto is_none = [](const std::uint8_t* bytes, std::uint32_t from, std::uint32_t to) {
      return std::all_of(bytes + from, bytes + to, [](std::uint8_t byte) { return byte == 0; });
    };
    return is_none(longs.arrivals_at(now), longs.first_receiver[block],
                   longs.first_receiver[end]) &&
           is_none(longs.credits_at(now), longs.first_sender[block], longs.first_sender[end]);
  }

  // No router of the block has a flit, nor gets one later of what was injected.
  bool is_quiet(const B& b) const {
    Vec any{};
    for (int lane = 0; lane < kLanes; lane += L::kCount) {
      any |= any_plane(b.queued, lane) | L::load(&x_.injected[lane]);
    }
    return !L::any(any);
  }

  void choose_outputs(B& b) {
    for (int lane = 0; lane < kLanes; ++lane) {
      if (b.adaptive[lane] != 0) {
        one_.choose_outputs(b, first_ + lane, lane);
      }
    }
  }

  // Of `kBytes` bytes from each of the places.
  template <int kBytes>
  static bool any_bytes(std::uint8_t* const* from, int count) {
    std::uint64_t any = 0;
    for (int i = 0; i < count; ++i) {
      for (int lane = 0; lane < kBytes; lane += 8) {
        std::uint64_t eight;
        __builtin_memcpy(&eight, from[i] + lane, sizeof eight);
        any |= eight;
      }
    }
    return any != 0;
  }

  void take_credits(B& b) {
    std::uint8_t* due[kCreditGroups];
    for (int g = 0; g < kCreditGroups; ++g) {
      due[g] = s_.credits_at(now_, g) + first_;
    }
    const bool some = any_bytes<kLanes>(due, kCreditGroups);
    for (int lane = 0; lane < kLanes; lane += L::kCount) {
      if (some) {
        Vec freed{};
        for (int g = 0; g < kCreditGroups; ++g) {
          freed |= vc_bits(L::load_bytes(due[g] + lane), g);
        }
        add_to(b.slots, lane, freed);
      }
      L::store(&x_.room[lane], any_plane(b.slots, lane));
    }
    if (some) {
      for (std::uint8_t* bytes : due) {
        std::memset(bytes, 0, kLanes);
      }
    }
  }

  void take_arrivals(B& b) {
    std::uint8_t* due[kPorts];
    for (int p = 0; p < kPorts; ++p) {
      due[p] = s_.arrivals_at(now_, p) + first_;
    }
    if (!any_bytes<kLanes>(due, kPorts)) {
      return;
    }
    for (int lane = 0; lane < kLanes; lane += L::kCount) {
      const Vec idle = ~(any_plane(b.queued, lane) | L::load(&b.active[lane]));
      Vec arrived{};
      Vec to[kPorts] = {};
      for (int p = 0; p < kPorts; ++p) {
        const Vec bytes = L::load_bytes(due[p] + lane);
        const Vec vc = vc_bits(bytes & L::all(15), p);
        arrived |= vc;
        const Vec port = bytes >> 4;
        for (int o = 0; o < kPorts; ++o) {
          to[o] |= port == L::all(static_cast<Word>(o)) ? vc : Vec{};
        }
      }
      add_to(b.queued, lane, arrived);
      if (s_.table != nullptr || s_.trees != nullptr) {
        L::store(&heads_[lane], arrived & idle);
        start_heads(b, lane);
        continue;
      }
      for (int o = 0; o < kPorts; ++o) {
        L::store(&b.waiting[o][lane], L::load(&b.waiting[o][lane]) | (to[o] & idle));
      }
    }
    for (std::uint8_t* bytes : due) {
      std::memset(bytes, 0, kLanes);
    }
  }

  // --- Sources.
  void inject() {
    x_.injected = {};
    for (int lane = 0; lane < kLanes; lane += L::kCount) {
      std::uint32_t awake = L::at_most(&s_.wake[first_ + lane], now_);
      for (; awake != 0; awake &= awake - 1) {
        inject_one(lane + std::countr_zero(awake));
      }
    }
  }

  DimensionOrder::Start start_of(std::uint32_t router, std::uint32_t destination) const {
    if (s_.table == nullptr) {
      return s_.order.start(router, destination);
    }
    const std::size_t links = s_.table->path({router}, {destination}).size();
    return {destination, static_cast<std::uint32_t>(links)};
  }

  // The packet comes to the head of its queue.
  void enter(Source& source, std::uint32_t router) {
    const DimensionOrder::Start start = start_of(router, source.head.destination);
    source.left = static_cast<std::uint16_t>(s_.traffic.packet_flits());
    const bool is_measured = source.head.generated < s_.drain_start;
    const std::uint32_t mark = is_measured ? s_.counted_mark : s_.counted_mark ^ 1u;
    source.flit = start.flit | Flit::times(0, source.head.generated) |
                  (std::uint64_t{mark} << Flit::kMarkShift);
    counters_.entered_flits += source.left;
    counters_.entered_generated_sum += std::uint64_t{source.head.generated} * source.left;
    if (is_measured) {
      ++counters_.measured_entered;
      counters_.measured_routers += start.links + 1;
    }
  }

  void inject_one(int lane) {
    const std::uint32_t router = first_ + lane;
    Source& source = s_.sources[router];
    if (s_.messages != nullptr) {
      inject_message(source, router, lane);
      return;
    }
    if (source.left == 0) {
      enter(source, router);
    }
    s_.wake[router] = now_ + 1;
    if (!find_vc(source, lane)) {
      return;
    }
    inject_flit(source, router, lane);
    if (source.left == 0) {
      source.head = s_.traffic.next(router, source.stream);
      s_.wake[router] = std::max(source.head.generated, now_ + 1);
    }
  }

  void inject_message(Source& source, std::uint32_t router, int lane) {
    const bool is_head = source.left == 0;
    Cycle& wake = s_.wake[router];
    std::optional<MessageSource::Offer> offer;
    if (is_head) {
      offer = s_.messages->offered(router, now_);
      if (!offer.has_value()) {
        wake = s_.messages->earliest(router);
        return;
      }
    }
    wake = now_ + 1;
    if (!find_vc(source, lane)) {
      return;  // another message may go first next time
    }
    if (is_head) {
      source.flit = offer->route | Flit::times(0, offer->id) |
                    (std::uint64_t{s_.counted_mark} << Flit::kMarkShift);
      source.left = static_cast<std::uint16_t>(offer->flits);
      s_.messages->began(router, offer->slot);
    }
    inject_flit(source, router, lane);
    if (is_head) {
      counters_.injected_flits += offer->targets - 1;
    }
    if (source.left == 0) {
      wake = std::max(now_ + 1, s_.messages->earliest(router));
    }
  }

  // A head takes the first VC with room behind the one used last, the rest of a packet stays there.
  bool find_vc(Source& source, int lane) const {
    const auto room = static_cast<std::uint32_t>(x_.room[lane] >> (kSourceGroup * kVcs));
    if (source.has_vc) {
      return ((room >> source.vc) & 1u) != 0;
    }
    const std::uint32_t after = room & (~std::uint32_t{1} << source.vc);
    const std::uint32_t choice = after != 0 ? after : room;
    if (choice == 0) {
      return false;
    }
    source.vc = static_cast<std::uint8_t>(std::countr_zero(choice));
    source.has_vc = true;
    return true;
  }

  void inject_flit(Source& source, std::uint32_t router, int lane) {
    const int input = kLocal * kVcs + source.vc;
    --source.left;
    const std::uint64_t flit =
        source.flit | Flit::times(now_, 0) | (std::uint64_t{source.left == 0} << Flit::kTailShift);
    std::uint8_t& place = s_.write_at[router * kOutputs + kSourceGroup * kVcs + source.vc];
    s_.fifo[((router * kInputs + input) << s_.capacity_bits) + place] = flit;
    place = static_cast<std::uint8_t>((place + 1) & place_mask());
    s_.arrivals_at(now_ + s_.config.inject_delay, kLocal)[router] =
        static_cast<std::uint8_t>((Flit::port(flit) << 4) | (source.vc + 1u));
    x_.injected[lane] = bit(kSourceGroup, source.vc);
    ++counters_.injected_flits;
    source.has_vc = source.left != 0;
  }

  // --- Flits.
  std::uint32_t place_mask() const { return (1u << s_.capacity_bits) - 1; }

  struct Taken {
    std::uint64_t flit;
    std::uint32_t router;
    std::uint32_t input;  // VC
    std::uint32_t output_vc;
  };

  // Takes the granted flit of one router from its FIFO and frees its slot.
  template <int kOutput, Paths kPaths>
  Taken take(int lane, std::uint32_t& tails) {
    const std::uint32_t router = first_ + lane;
    const auto input = static_cast<std::uint32_t>(std::countr_zero(x_.moved[kOutput][lane]));
    const std::uint32_t fifo = router * kInputs + input;
    const std::uint32_t place = read_at_[fifo];
    const std::uint64_t flit = fifo_[(std::size_t{fifo} << capacity_bits_) + place];
    if (kPaths != Paths::Any || ((x_.copied[lane] >> input) & 1u) == 0) {
      free_slot<kPaths>(router, lane, input);
    }
    tails |= (static_cast<std::uint32_t>(flit >> Flit::kTailShift) & 1u) << lane;
    const auto output_vc = std::countr_zero(static_cast<Word>(x_.used[lane] >> (kOutput * kVcs)));
    return {flit, router, input, static_cast<std::uint32_t>(output_vc)};
  }

  // Of the flit in front of an input VC, which is gone.
  template <Paths kPaths>
  void free_slot(std::uint32_t router, int lane, std::uint32_t input) {
    const std::uint32_t fifo = router * kInputs + input;
    read_at_[fifo] = static_cast<std::uint8_t>((read_at_[fifo] + 1) & place_mask_);
    const auto credit = static_cast<std::uint8_t>(input % kVcs + 1);
    const std::uint32_t side = input / kVcs;
    if (kPaths == Paths::Any && ((long_in_[side] >> lane) & 1u) != 0) {
      const LongReceiver& link = s_.longs.receivers[s_.longs.into[router * kLocal + side]];
      const Cycle due = now_ + static_cast<Cycle>(s_.config.credit_delay) + link.delay;
      s_.longs.credits_at(due)[link.sender] = credit;
    } else {
      credits_[credit_to_[side] + router] = credit;
    }
  }

  // Copied flits that are gone free their slots; of those that stay, the copies of the next class
  // may be due.
  void end_copied(B& b) {
    for (int lane = 0; lane < kLanes; ++lane) {
      for (Word gone = x_.copied[lane] & ~x_.kept[lane]; gone != 0; gone &= gone - 1) {
        free_slot<Paths::Any>(first_ + lane, lane,
                              static_cast<std::uint32_t>(std::countr_zero(gone)));
      }
      for (Word kept = x_.kept[lane]; kept != 0; kept &= kept - 1) {
        one_.begin_next_class(b, first_ + lane, lane, std::countr_zero(kept));
      }
    }
  }

  template <Paths kPaths>
  void send(B& b, std::uint32_t block) {
    fifo_ = s_.fifo.data();
    read_at_ = s_.read_at.data();
    write_at_ = s_.write_at.data();
    credits_ = s_.credits.data();
    capacity_bits_ = s_.capacity_bits;
    place_mask_ = place_mask();
    for (int p = 0; p < kLocal; ++p) {
      credit_to_[p] = s_.credits_at(now_ + s_.config.credit_delay, p ^ 1) - credits_ + s_.stride[p];
    }
    credit_to_[kLocal] =
        s_.credits_at(now_ + s_.config.source_credit_delay, kSourceGroup) - credits_;
    if (kPaths == Paths::Any && !s_.longs.empty()) {
      std::copy_n(s_.longs.in_lanes[block].begin(), kLocal, long_in_.begin());
      long_out_ = s_.longs.out_lanes[block];
    }
    const std::array<std::uint32_t, kPorts> tails{
        send_by<kEast, kPaths>(), send_by<kWest, kPaths>(), send_by<kSouth, kPaths>(),
        send_by<kNorth, kPaths>(), eject<kPaths>()};
    if (kPaths == Paths::Any && s_.trees != nullptr) {
      end_copied(b);
    }
    end_packets<kPaths>(b, tails);
  }

  // Returns the lanes that sent a tail.
  template <int kOutput, Paths kPaths>
  std::uint32_t send_by() {
    std::uint32_t tails = 0;
    std::uint32_t lanes = x_.movers[kOutput];
    if constexpr (kPaths == Paths::Any) {
      for (std::uint32_t far = lanes & long_out_[kOutput]; far != 0; far &= far - 1) {
        const Taken taken = take<kOutput, kPaths>(std::countr_zero(far), tails);
        const std::uint32_t link = s_.longs.out_of[taken.router * kLocal + kOutput];
        one_.send(link, onward(taken, kOutput, s_.longs.senders[link].step), taken.output_vc, now_);
      }
      lanes &= ~long_out_[kOutput];
    }
    const std::int32_t stride = s_.stride[kOutput];
    const std::uint64_t step = s_.order.step[kOutput];
    const Axes<kPaths> axes = s_.order.axes;
    std::uint8_t* const arrivals = s_.arrivals_at(now_ + s_.config.flit_delay, kOutput ^ 1);
    for (; lanes != 0; lanes &= lanes - 1) {
      const Taken taken = take<kOutput, kPaths>(std::countr_zero(lanes), tails);
      std::uint64_t flit;
      if constexpr (kPaths == Paths::Any) {
        flit = onward(taken, kOutput, step);
      } else {
        flit = taken.flit - step;
        flit = Flit::with_port(flit, axes.port_left(flit));
      }
      const std::uint32_t there = taken.router + stride;
      const std::uint32_t fifo = there * kInputs + (kOutput ^ 1) * kVcs + taken.output_vc;
      const std::uint32_t sender = taken.router * kOutputs + kOutput * kVcs + taken.output_vc;
      const std::uint32_t place = write_at_[sender];
      fifo_[(std::size_t{fifo} << capacity_bits_) + place] = flit;
      write_at_[sender] = static_cast<std::uint8_t>((place + 1) & place_mask_);
      arrivals[there] = static_cast<std::uint8_t>((Flit::port(flit) << 4) | (taken.output_vc + 1));
    }
    return tails;
  }

  // The flit as it is at the next router; `step`: what the link takes from it.
  std::uint64_t onward(const Taken& taken, int output, std::uint64_t step) const {
    if (Flit::is_copied(taken.flit)) {
      return Flit::to_copy_at(taken.flit, one_.branch(taken.router, taken.input, output).next);
    }
    if (s_.table != nullptr) {
      const std::uint64_t vc_class = s_.class_of_vc[taken.output_vc];
      return (taken.flit & ~(std::uint64_t{3} << Flit::kClassShift)) |
             (vc_class << Flit::kClassShift);
    }
    const std::uint64_t flit = taken.flit - step;
    return Flit::with_port(flit, s_.order.port_left(flit));
  }

  template <Paths kPaths>
  std::uint32_t eject() {
    std::uint32_t tails = 0;
    const Cycle arrival = now_ + s_.config.eject_delay;
    std::uint8_t* const credits = s_.credits_at(now_ + s_.config.eject_credit_delay, kLocal);
    for (std::uint32_t lanes = x_.movers[kLocal]; lanes != 0; lanes &= lanes - 1) {
      const Taken taken = take<kLocal, kPaths>(std::countr_zero(lanes), tails);
      credits[taken.router] = static_cast<std::uint8_t>(taken.output_vc + 1);
      if (s_.messages != nullptr) {
        count_message(taken, message_of(taken), arrival);
      } else {
        count(taken.flit, arrival);
      }
    }
    return tails;
  }

  // Where a tail left, its VCs are free again; a flit behind it is the head of the next packet.
  template <Paths kPaths>
  void end_packets(B& b, const std::array<std::uint32_t, kPorts>& tails) {
    for (int lane = 0; lane < kLanes; lane += L::kCount) {
      Vec ended{};
      Vec freed{};
      for (int o = 0; o < kPorts; ++o) {
        ended |= L::keep(tails[o] >> lane, L::load(&x_.moved[o][lane]));
        freed |= L::keep(tails[o] >> lane, L::load(&x_.used[lane]) & L::all(group(o)));
      }
      if (kPaths == Paths::Any) {
        ended &= ~L::load(&x_.kept[lane]);
      }
      L::store(&b.active[lane], L::load(&b.active[lane]) & ~ended);
      L::store(&b.busy[lane], L::load(&b.busy[lane]) & ~freed);
      const Vec heads = ended & L::load(&x_.more[lane]);
      L::store(&heads_[lane], heads);
      start_heads(b, lane);
    }
  }

  void start_heads(B& b, int from) {
    for (std::uint32_t lanes = L::nonzero(L::load(&heads_[from])); lanes != 0; lanes &= lanes - 1) {
      const int lane = from + std::countr_zero(lanes);
      for (Word heads = heads_[lane]; heads != 0; heads &= heads - 1) {
        one_.start_head(b, first_ + lane, lane, std::countr_zero(heads));
      }
    }
  }

  // What MessageSource::arrived wants to know.
  std::uint32_t message_of(const Taken& taken) const {
    const auto id = static_cast<std::uint32_t>(taken.flit >> Flit::kGeneratedShift);
    return Flit::is_copied(taken.flit)
               ? s_.messages->id_at(id, one_.branch(taken.router, taken.input, kLocal).next)
               : id;
  }

  void count_message(const Taken& taken, std::uint32_t message, Cycle arrival) {
    ++counters_.flits;
    counters_.flit_latency_sum += Flit::since_injected(taken.flit, arrival);
    counters_.last_arrival = arrival;
    if (((taken.flit >> Flit::kTailShift) & 1u) != 0) {
      ++counters_.packets;
      const Cycle next = s_.messages->arrived(message, arrival);
      s_.wake[taken.router] = std::min(s_.wake[taken.router], next);
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
  B* const blocks_;
  OneRouter<kVcs> one_;
  Scratch<kVcs> x_;
  Allocators<kVcs> allocators_;
  Cycle now_ = 0;
  std::uint32_t first_ = 0;    // router of lane 0
  bool offers_later_ = false;  // a long link's rate will let a flit go

  alignas(kRowBytes) Row heads_{};  // input VCs where a head comes to the front

  // Copies of what the loops over flits read: stores of bytes would make the compiler reload them.
  std::uint64_t* fifo_ = nullptr;
  std::uint8_t* read_at_ = nullptr;
  std::uint8_t* write_at_ = nullptr;
  int capacity_bits_ = 0;
  std::uint32_t place_mask_ = 0;
  std::uint8_t* credits_ = nullptr;
  std::array<std::uint32_t, kPorts> long_in_{};  // lanes, by side; none at kLocal
  std::array<std::uint32_t, kLocal> long_out_{};
  std::array<std::ptrdiff_t, kPorts> credit_to_{};  // by input port: of router 0's upstream byte
};

}  // namespace dojo::mesh::internal::DOJO_MESH_ISA
