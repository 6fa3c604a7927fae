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
//   send              each granted flit goes into the next FIFO, or to its node (sender.h)
//
// Effects on other routers are bytes in the wheels for a later cycle, so blocks may come in any
// order.
#pragma once

#include "dojo/mesh/internal/allocators.h"
#include "dojo/mesh/internal/lanes.h"
#include "dojo/mesh/internal/masks.h"
#include "dojo/mesh/internal/one_router.h"
#include "dojo/mesh/internal/sender.h"

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

  Cycles(State& state, Counters& counters)
      : s_(state),
        counters_(counters),
        blocks_(state.blocks_of<kVcs>()),
        one_(state),
        allocators_(state, x_),
        sender_(state, counters, x_, one_) {}

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
    if (!s_.longs.empty()) {
      serve_long_links(b, block);
    }
    take_credits(b);
    inject();
    take_arrivals(b);
    const bool is_stirred = !is_quiet(b);
    const std::uint8_t stirs = is_stirred || offers_later_ ? 1 : 0;
    if (s_.stirred[block] != stirs) {  // bytes of other threads lie in the same line of the cache
      s_.stirred[block] = stirs;
    }
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
      sender_.advance(b);
    } else {
      sender_.run(b, block, now);
    }
  }

 private:
  using M = Masks<kVcs>;
  using M::add_to, M::any_plane, M::bit, M::group, M::vc_bits;
  using Row = typename B::Row;
  using C = CopyBlock<kVcs>;

  void serve_long_links(B& b, std::uint32_t block) {
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
        sender_.start_heads(b, first_, lane, arrived & idle);
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
    std::uint8_t& place = s_.source_at[router * kVcs + source.vc];
    s_.fifo[((router * kInputs + input) << s_.capacity_bits) + place] = flit;
    place = static_cast<std::uint8_t>((place + 1) & ((1u << s_.capacity_bits) - 1));
    s_.arrivals_at(now_ + s_.config.inject_delay, kLocal)[router] =
        static_cast<std::uint8_t>((Flit::port(flit) << 4) | (source.vc + 1u));
    x_.injected[lane] = bit(kSourceGroup, source.vc);
    ++counters_.injected_flits;
    source.has_vc = source.left != 0;
  }

  State& s_;
  Counters& counters_;
  B* const blocks_;
  OneRouter<kVcs> one_;
  Scratch<kVcs> x_;
  Allocators<kVcs> allocators_;
  Sender<kVcs> sender_;
  Cycle now_ = 0;
  std::uint32_t first_ = 0;    // router of lane 0
  bool offers_later_ = false;  // a long link's rate will let a flit go
};

}  // namespace dojo::mesh::internal::DOJO_MESH_ISA
