// Who gets an output VC, and who the switch: two iterations of iSLIP, decided on the same state,
// for as many routers at once as a vector has lanes.
#pragma once

#include "dojo/mesh/internal/lanes.h"
#include "dojo/mesh/internal/masks.h"

namespace dojo::mesh::internal::DOJO_MESH_ISA {

template <int kVcs>
class Allocators : private Masks<kVcs> {
 public:
  using B = Block<kVcs>;
  using Word = typename B::Word;
  using L = Lanes<Word>;
  using Vec = typename L::Vec;
  static constexpr int kInputs = B::kInputs;

  Allocators(const State& state, Scratch<kVcs>& scratch)
      : s_(state),
        x_(scratch),
        speculates_(state.config.speculation == Speculation::On),
        is_islip_(state.config.allocator == Allocator::Islip) {}

  using C = CopyBlock<kVcs>;

  // Of lanes [lane, lane + L::kCount). Returns nonzero if some flit moves. `copies`: beside the
  // block, where routers copy.
  template <bool kCopies>
  Word run(B& b, C* copies, int lane) {
    const Vec room = L::load(&x_.room[lane]);
    const Vec present = L::load(&b.active[lane]) & any_plane(b.queued, lane);
    Vec ready[kPorts];        // active input VCs that may send to the output
    Vec speculative[kPorts];  // waiting ones that bid for it all the same
    Vec accepted[kInputs];    // by output VC: the input VC that gets it
    Vec got_room[kPorts];     // those among them that may send at once
    Vec got{};
    for (int o = 0; o < kPorts; ++o) {
      ready[o] = Vec{};
      for (int v = 0; v < kVcs; ++v) {
        ready[o] |= L::where(room, bit(o, v), L::load(&b.last[o * kVcs + v][lane]));
      }
      ready[o] &= present;
      if constexpr (kCopies) {
        for (int v = 0; v < kVcs; ++v) {
          ready[o] |= L::where(room, bit(o, v), L::load(&copies->owned_by[o * kVcs + v][lane]));
        }
      }
      const Vec waiting = L::load(&b.waiting[o][lane]);
      speculative[o] = Vec{};
      got_room[o] = Vec{};
      if (!L::any(waiting)) {
        for (int v = 0; v < kVcs; ++v) {
          accepted[o * kVcs + v] = Vec{};
        }
        continue;
      }
      got |= allocate_vcs(b, lane, o, waiting, &accepted[o * kVcs]);
      if (speculates_) {
        speculative[o] = speculators(b, lane, o, waiting, room);
        for (int v = 0; v < kVcs; ++v) {
          got_room[o] |= L::where(room, bit(o, v), accepted[o * kVcs + v]);
        }
      }
    }
    Vec moved[kPorts];
    const Vec copying = kCopies ? L::load(&copies->copying[lane]) : Vec{};
    allocate_switch<kCopies>(b, lane, ready, speculative, copying, moved);
    if (speculates_) {
      for (int o = 0; o < kPorts; ++o) {
        moved[o] &= ready[o] | got_room[o];
      }
    }
    return commit<kCopies>(b, copies, lane, accepted, got, moved);
  }

 private:
  using M = Masks<kVcs>;
  using M::any_plane, M::bit, M::group, M::take_from;
  using Row = typename B::Row;

  // Those that may go on in VC v of the output.
  Vec may_ask(const B& b, int lane, int o, int v, Vec waiting) const {
    return s_.classes == 1 || o == kLocal ? waiting
                                          : waiting & L::load(&b.in_class[s_.class_of_vc[v]][lane]);
  }

  // Those that wait for the output while a VC that they may take is free and has room.
  Vec speculators(const B& b, int lane, int o, Vec waiting, Vec room) const {
    const Vec open = room & ~L::load(&b.busy[lane]);
    if (s_.classes == 1 || o == kLocal) {
      return (open & L::all(group(o))) != 0 ? waiting : Vec{};
    }
    Vec all{};
    for (int v = 0; v < kVcs; ++v) {
      all |= L::where(open, bit(o, v), may_ask(b, lane, o, v, waiting));
    }
    return all;
  }

  // Of one output; the state stays, but for the pointers.
  Vec allocate_vcs(B& b, int lane, int o, Vec waiting, Vec* accepted) {
    const Vec busy = L::load(&b.busy[lane]);
    Vec granted[kVcs];
    for (int v = 0; v < kVcs; ++v) {
      const Vec asking = L::where_not(busy, bit(o, v), may_ask(b, lane, o, v, waiting));
      granted[v] = L::first_from(L::load(&b.vc_from[o * kVcs + v][lane]), asking);
    }
    // An input whose accept pointer is beyond v takes v only if nothing later was granted to it.
    Vec beyond[kVcs];
    Vec sum{};
    for (int v = kVcs - 1; v >= 0; --v) {
      sum |= L::load(&b.last[o * kVcs + v][lane]);
      beyond[v] = sum;
    }
    Vec taken{};
    for (int v = 0; v < kVcs; ++v) {
      accepted[v] = granted[v] & ~beyond[v] & ~taken;
      taken |= accepted[v];
    }
    for (int v = 0; v < kVcs; ++v) {
      const Vec wrapped = granted[v] & ~taken;
      accepted[v] |= wrapped;
      taken |= wrapped;
      const Vec before = L::load(&b.vc_from[o * kVcs + v][lane]);
      const Vec past = is_islip_ ? accepted[v] : granted[v];
      L::store(&b.vc_from[o * kVcs + v][lane], past != 0 ? L::above(past) : before);
    }
    L::store(&b.waiting[o][lane], waiting & ~taken);
    return taken;
  }

  // One bit per port of which some VC is in the mask, at the port's first VC.
  static Vec ports_of(Vec vcs) {
    Vec any = vcs;
    for (int v = 1; v < kVcs; ++v) {
      any |= vcs >> v;
    }
    return any & L::all(M::kPortBits);
  }

  // moved[o]: the input VC that is granted output o, or nothing.
  template <bool kCopies>
  void allocate_switch(B& b, int lane, const Vec* ready, const Vec* speculative, Vec copying,
                       Vec* moved) {
    Vec granted[kPorts];
    Vec beyond[kPorts];
    for (int o = 0; o < kPorts; ++o) {
      granted[o] =
          L::first_from(L::load(&b.port_from[o][lane]), ports_of(ready[o] | speculative[o]));
    }
    Vec sum{};
    for (int o = kPorts - 1; o >= 0; --o) {
      sum |= L::load(&b.port_last[o][lane]);
      beyond[o] = sum;
    }
    Vec taken{};
    Vec first[kPorts];
    for (int o = 0; o < kPorts; ++o) {
      first[o] = granted[o] & ~beyond[o] & ~taken;
      taken |= first[o];
    }
    const Vec vc_next = L::load(&b.vc_next[lane]);
    Vec cleared{};
    Vec set{};
    for (int o = 0; o < kPorts; ++o) {
      const Vec wrapped = granted[o] & ~taken;
      const Vec input = first[o] | wrapped;
      taken |= wrapped;
      const Vec past = is_islip_ ? input : granted[o];
      L::store(&b.port_from[o][lane], past != 0 ? L::above(past) : L::load(&b.port_from[o][lane]));
      first[o] = input;
      const Vec vcs = (input << kVcs) - input;  // all of the input port
      const Vec asking = L::or_else(ready[o] & vcs, speculative[o] & vcs);
      moved[o] = L::first_from(vc_next, asking);
      cleared |= vcs;
      set |= vcs & L::above(moved[o]);
    }
    L::store(&b.vc_next[lane], (vc_next & ~cleared) | set);
    for (int o = 0; o < kPorts; ++o) {
      L::store(&b.port_last[o][lane], (L::load(&b.port_last[o][lane]) & ~taken) | first[o]);
    }
    if constexpr (kCopies) {
      take_further_grants(b, lane, ready, speculative, granted, vc_next, copying, moved);
    }
  }

  // An input port that moves a copied flit takes it to all outputs at once that granted the port
  // and for which the same VC stands.
  void take_further_grants(B& b, int lane, const Vec* ready, const Vec* speculative,
                           const Vec* granted, Vec vc_next, Vec copying, Vec* moved) {
    Vec moving{};
    for (int o = 0; o < kPorts; ++o) {
      moving |= moved[o];
    }
    moving &= copying;
    for (int o = 0; o < kPorts; ++o) {
      const Vec vcs = (granted[o] << kVcs) - granted[o];
      const Vec stands =
          L::first_from(vc_next, L::or_else(ready[o] & vcs, speculative[o] & vcs)) & moving;
      moved[o] |= stands;
      const Vec before = L::load(&b.port_from[o][lane]);
      L::store(&b.port_from[o][lane], stands != 0 ? L::above(granted[o]) : before);
    }
  }

  // VC grants, then switch grants, as far as masks and counters go.
  template <bool kCopies>
  Word commit(B& b, C* copies, int lane, const Vec* accepted, Vec got, const Vec* moved) {
    Vec busy = L::load(&b.busy[lane]);
    Vec used = L::load(&x_.injected[lane]);  // output VCs that give a slot away
    const Vec copying = kCopies ? L::load(&copies->copying[lane]) : Vec{};
    const Vec got_whole = kCopies ? got & ~copying : got;  // all that they need
    for (int o = 0; o < kPorts; ++o) {
      for (int v = 0; v < kVcs; ++v) {
        Row& row = b.last[o * kVcs + v];
        const Vec won = accepted[o * kVcs + v];
        Vec owner;
        if constexpr (kCopies) {
          const Vec last = (L::load(&row[lane]) & ~got_whole) | (won & ~copying);
          L::store(&row[lane], last);
          Row& owned_by = copies->owned_by[o * kVcs + v];
          const Vec copier = L::load(&owned_by[lane]) | (won & copying);
          L::store(&owned_by[lane], copier & ~moved[o]);
          owner = (last & ~copying) | copier;
        } else {
          owner = (L::load(&row[lane]) & ~got_whole) | won;
          L::store(&row[lane], owner);
        }
        busy |= won != 0 ? L::all(bit(o, v)) : Vec{};
        used |= (moved[o] & owner) != 0 ? L::all(bit(o, v)) : Vec{};
      }
    }
    L::store(&b.busy[lane], busy);
    L::store(&b.active[lane], L::load(&b.active[lane]) | got_whole);
    take_from(b.slots, lane, used);
    L::store(&x_.used[lane], used);
    Vec popped{};
    Word lanes_moved = 0;
    for (int o = 0; o < kPorts; ++o) {
      popped |= moved[o];
      L::store(&x_.moved[o][lane], moved[o]);
      const std::uint32_t some = L::nonzero(moved[o]);
      lanes_moved |= some;
      x_.movers[o] = lane == 0 ? some : x_.movers[o] | (some << lane);
      L::store(&b.sent[o][lane], L::load(&b.sent[o][lane]) - reinterpret_cast<Vec>(moved[o] != 0));
    }
    if constexpr (kCopies) {
      popped &= ~keep_copied(b, *copies, lane, popped);
    }
    L::store(&x_.popped[lane], popped);
    take_from(b.queued, lane, popped);
    L::store(&x_.more[lane], any_plane(b.queued, lane));
    return lanes_moved;
  }

  // Which of the input VCs that move keep their flit, for some copy of it has not left.
  Vec keep_copied(const B& b, C& copies, int lane, Vec moved) {
    const Vec copying = L::load(&copies.copying[lane]);
    Vec left = L::load(&copies.later[lane]);
    for (int o = 0; o < kPorts; ++o) {
      left |= L::load(&b.waiting[o][lane]);
      for (int v = 0; v < kVcs; ++v) {
        left |= L::load(&copies.owned_by[o * kVcs + v][lane]);
      }
    }
    const Vec copied = moved & copying;
    const Vec kept = copied & left;
    L::store(&x_.kept[lane], kept);
    L::store(&copies.copying[lane], copying & ~(copied & ~kept));
    return kept;
  }

  const State& s_;
  Scratch<kVcs>& x_;
  const bool speculates_;
  const bool is_islip_;
};

}  // namespace dojo::mesh::internal::DOJO_MESH_ISA
