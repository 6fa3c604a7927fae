#include "dojo/mesh/mesh.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <random>
#include <thread>

#include "dojo/base/check.h"
#include "dojo/base/thread_pool.h"
#include "dojo/mesh/internal/kernel.h"
#include "dojo/mesh/internal/saved_state.h"
#include "dojo/mesh/internal/state.h"
#include "dojo/mesh/internal/state_setup.h"

namespace dojo::mesh {

// A thread simulates a range of routers. It may start cycle t when the others whose routers its own
// touch have finished t - (shortest delay between routers): what they send later is due later.
// One counter per thread says how far it is; there are no barriers.
struct Mesh::Impl {
  struct alignas(128) Share {
    std::vector<std::uint32_t> blocks;  // in the order of visiting
    std::vector<std::size_t> near;      // shares it exchanges flits with
    Counters counters;
    std::atomic<Cycle> done{0};  // cycles finished
  };

  internal::State state;
  internal::CycleFunction cycle = nullptr;
  Cycle now = 0;
  std::vector<Share> shares;
  ThreadPool pool;

  Impl(internal::State first, int threads)
      : state(std::move(first)), shares(threads), pool(threads) {}

  void run_share(std::size_t index, Cycle end) {
    Share& share = shares[index];
    const auto ahead =
        static_cast<Cycle>(std::min(state.config.flit_delay, state.config.credit_delay));
    for (Cycle t = now; t < end; ++t) {
      for (const std::size_t other : share.near) {
        wait_for(shares[other].done, t < ahead ? 0 : t - ahead + 1);
      }
      cycle(state, share.counters, share.blocks, t);
      share.done.store(t + 1, std::memory_order_release);
    }
  }

  static void wait_for(const std::atomic<Cycle>& done, Cycle wanted) {
    constexpr int kSpins = 2000;
    for (int spins = 0; done.load(std::memory_order_acquire) < wanted; ++spins) {
      if (spins > kSpins) {
        std::this_thread::yield();
      }
    }
  }

  // Contiguous ranges of blocks, as equal as can be.
  void share_out(const Topology& topology, const MeshOptions& options, std::uint32_t lanes) {
    const auto count = static_cast<std::uint32_t>(shares.size());
    std::vector<std::uint32_t> share_of_block(state.blocks);
    for (std::uint32_t block = 0; block < state.blocks; ++block) {
      const auto share = static_cast<std::uint32_t>(std::uint64_t{block} * count / state.blocks);
      share_of_block[block] = share;
      shares[share].blocks.push_back(block);
    }
    for (Share& share : shares) {
      if (options.shuffle.has_value()) {
        std::mt19937 random(*options.shuffle);
        std::shuffle(share.blocks.begin(), share.blocks.end(), random);
      }
    }
    for (const Link& link : topology.links()) {
      const std::uint32_t from = share_of_block[link.from.index / lanes];
      const std::uint32_t to = share_of_block[link.to.index / lanes];
      auto& near = shares[from].near;
      if (from != to && std::find(near.begin(), near.end(), to) == near.end()) {
        near.push_back(to);
        shares[to].near.push_back(from);
      }
    }
  }
};

Mesh::Mesh(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Mesh::~Mesh() = default;
Mesh::Mesh(Mesh&&) noexcept = default;
Mesh& Mesh::operator=(Mesh&&) noexcept = default;

Result<Mesh> Mesh::make(const Topology& topology, const RoutingTable& routing,
                        const RouterConfig& router, const Traffic& traffic,
                        const MeshOptions& options) {
  if (topology.routers() > internal::kMaxRouters) {
    return Error{ErrorKind::DoesNotFit, fmt::format("a mesh of {} routers: at most {}",
                                                    topology.routers(), internal::kMaxRouters)};
  }
  DOJO_TRY_VOID(check(router));
  if (options.threads < 1) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("{} threads: must be at least 1", options.threads)};
  }
  auto impl = std::make_unique<Impl>(internal::first_state(topology, routing, router, traffic),
                                     options.threads);
  constexpr int kDeepest = 65535;
  for (const internal::LongLink& link : impl->state.longs.links) {
    if (link.reserved * router.vcs + link.shared > kDeepest) {
      return Error{ErrorKind::DoesNotFit,
                   fmt::format("a link's buffer of {} flits: at most {}",
                               link.reserved * router.vcs + link.shared, kDeepest)};
    }
  }
  impl->cycle = internal::cycle_function(options.isa.value_or(best_isa()), router.vcs);
  internal::with_vcs(router.vcs, [&](auto vcs) {
    impl->share_out(topology, options, internal::Block<vcs.value>::kLanes);
  });
  return Mesh(std::move(impl));
}

Result<Mesh> Mesh::make(const MeshSpec& spec, const Traffic& traffic, const MeshOptions& options) {
  if (spec.rows < 1 || spec.columns < 1) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("mesh {}x{}: a side must be at least 1", spec.rows, spec.columns)};
  }
  if (std::int64_t{spec.rows} * spec.columns > std::int64_t{internal::kMaxRouters}) {
    return Error{ErrorKind::DoesNotFit, fmt::format("mesh {}x{}: at most {} routers", spec.rows,
                                                    spec.columns, internal::kMaxRouters)};
  }
  DOJO_TRY_VOID(check(spec.router));
  DOJO_TRY(Topology topology, Topology::rectangle({.rows = spec.rows, .columns = spec.columns}));
  auto own = std::make_unique<Topology>(std::move(topology));
  DOJO_TRY(RoutingTable routing, RoutingTable::make(*own, RoutingKind::XFirst, spec.router.vcs));
  // Dimension order needs neither of them once the mesh is made.
  return make(*own, routing, spec.router, traffic, options);
}

void Mesh::run_until(Cycle end) {
  if (end <= impl_->now) {
    return;
  }
  if (impl_->shares.size() == 1) {
    impl_->run_share(0, end);
  } else {
    impl_->pool.parallel_for(static_cast<std::int64_t>(impl_->shares.size()), 1,
                             [&](std::int64_t begin, std::int64_t /*end*/) {
                               impl_->run_share(static_cast<std::size_t>(begin), end);
                             });
  }
  impl_->now = end;
}

Cycle Mesh::now() const { return impl_->now; }
const RouterConfig& Mesh::router() const { return impl_->state.config; }
int Mesh::columns() const { return static_cast<int>(impl_->state.order.columns); }
int Mesh::routers() const { return static_cast<int>(impl_->state.routers); }

Counters Mesh::counters() const {
  Counters sum;
  for (const Impl::Share& share : impl_->shares) {
    sum.add(share.counters);
  }
  return sum;
}

std::uint64_t Mesh::flits_sent(int router, int port) const {
  std::uint64_t sent = 0;
  internal::with_vcs(impl_->state.config.vcs, [&](auto vcs) {
    using B = internal::Block<vcs.value>;
    const B& b = impl_->state.blocks_of<vcs.value>()[router / B::kLanes];
    sent = b.sent[static_cast<std::size_t>(port)][static_cast<std::size_t>(router % B::kLanes)];
  });
  return sent;
}

void Mesh::start_measuring() {
  // Packets of the other kind do not count any more.
  impl_->state.counted_mark ^= 1;
  for (Impl::Share& share : impl_->shares) {
    share.counters.forget_packets();
  }
}

void Mesh::start_draining() { impl_->state.drain_start = impl_->now; }

std::string Mesh::save() const { return internal::to_bytes(impl_->state, impl_->now, counters()); }

Result<void> Mesh::resume(std::string_view saved) {
  Counters sum;
  DOJO_TRY_VOID(internal::from_bytes(saved, impl_->state, impl_->now, sum));
  for (Impl::Share& share : impl_->shares) {
    share.counters = {};
    share.done.store(impl_->now, std::memory_order_relaxed);
  }
  impl_->shares.front().counters = sum;
  return {};
}

bool Mesh::is_empty() const {
  const internal::State& state = impl_->state;
  const bool sources_done =
      std::all_of(state.wake.begin(), state.wake.end(), [](Cycle wake) { return wake == kNever; });
  std::uint64_t injected = 0;
  std::uint64_t ejected = 0;
  for (const Impl::Share& share : impl_->shares) {
    injected += share.counters.injected_flits;
    ejected += share.counters.flits;
  }
  return sources_done && injected == ejected;
}

}  // namespace dojo::mesh
