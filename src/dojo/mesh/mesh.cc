#include "dojo/mesh/mesh.h"

#include <fmt/format.h>

#include <algorithm>

#include "dojo/base/check.h"
#include "dojo/mesh/internal/mesh_impl.h"
#include "dojo/mesh/internal/saved_state.h"
#include "dojo/mesh/internal/state_setup.h"

namespace dojo::mesh {

Mesh::Mesh(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Mesh::~Mesh() = default;
Mesh::Mesh(Mesh&&) noexcept = default;
Mesh& Mesh::operator=(Mesh&&) noexcept = default;

Result<Mesh> Mesh::make(const Topology& topology, const RoutingTable& routing,
                        const RouterConfig& router, const Traffic& traffic,
                        const MeshOptions& options) {
  DOJO_TRY(auto impl, Impl::make(topology, routing, router, traffic, options));
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

void Mesh::run_until(Cycle end) { impl_->run_until(end, {}); }

Cycle Mesh::now() const { return impl_->now; }
const RouterConfig& Mesh::router() const { return impl_->state.config; }
int Mesh::columns() const { return static_cast<int>(impl_->state.columns); }
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

std::uint64_t Mesh::flits_moved() const {
  std::uint64_t sum = 0;
  for (int router = 0; router < routers(); ++router) {
    for (int port = 0; port < kPorts; ++port) {
      sum += flits_sent(router, port);
    }
  }
  return sum;
}

std::vector<WaitingChannel> Mesh::waiting_channels() const {
  std::vector<WaitingChannel> channels;
  internal::with_vcs(impl_->state.config.vcs, [&](auto vcs) {
    using B = internal::Block<vcs.value>;
    for (std::uint32_t router = 0; router < impl_->state.routers; ++router) {
      const B& b = impl_->state.blocks_of<vcs.value>()[router / B::kLanes];
      const std::size_t lane = router % B::kLanes;
      for (int i = 0; i < B::kInputs; ++i) {
        WaitingChannel channel{
            .router = {router}, .input = static_cast<Port>(i / vcs.value), .vc = i % vcs.value};
        const auto copies_to = [&](std::size_t output_vc) {
          return impl_->state.trees != nullptr &&
                 ((impl_->state.copy_blocks_of<vcs.value>()[router / B::kLanes]
                       .owned_by[output_vc][lane] >>
                   i) &
                  1u) != 0;
        };
        const auto has = [&](const typename B::Row& row) { return ((row[lane] >> i) & 1u) != 0; };
        bool is_waiting = false;
        for (int o = 0; o < kPorts; ++o) {
          bool waits = has(b.waiting[static_cast<std::size_t>(o)]);
          for (int v = 0; v < vcs.value; ++v) {
            const std::size_t output_vc = std::size_t{vcs.value} * o + v;
            const bool owns = (has(b.active) && b.has_queued(lane, i) && has(b.last[output_vc])) ||
                              copies_to(output_vc);
            if (owns) {
              waits = true;
              channel.output_vc = v;
            }
          }
          if (waits) {
            is_waiting = true;
            channel.output = static_cast<Port>(o);
          }
        }
        if (is_waiting) {
          const std::size_t fifo = router * B::kInputs + static_cast<std::size_t>(i);
          const std::uint64_t flit =
              impl_->state
                  .fifo[(fifo << impl_->state.capacity_bits) + B::count(b.read_at, lane, i)];
          channel.cycles = internal::Flit::since_injected(flit, impl_->now);
          channels.push_back(channel);
        }
      }
    }
  });
  return channels;
}

bool Mesh::has_no_flits() const {
  const Counters sum = counters();
  return sum.injected_flits == sum.flits;
}

Cycle Mesh::oldest_flit() const {
  Cycle oldest = 0;
  for (const WaitingChannel& channel : waiting_channels()) {
    oldest = std::max(oldest, channel.cycles);
  }
  return oldest;
}

Cycle Mesh::longest_pause() const {
  Cycle longest = 0;
  for (const internal::LongSender& link : impl_->state.longs.senders) {
    longest = std::max(longest, static_cast<Cycle>(link.den / link.num) + link.delay);
  }
  return longest;
}

std::span<const std::uint32_t> Mesh::nodes() const { return impl_->state.nodes; }

std::uint64_t Mesh::flits_received(std::uint32_t node) const {
  std::uint64_t sum = 0;
  for (int plane = 0; plane < impl_->state.planes; ++plane) {
    const std::uint32_t router = static_cast<std::uint32_t>(plane) * impl_->state.sites + node;
    sum += flits_sent(static_cast<int>(router), kLocal);
  }
  return sum;
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
    share.arrived.store(0, std::memory_order_relaxed);
    share.done.store(impl_->now, std::memory_order_relaxed);
  }
  impl_->shares.front().counters = sum;
  impl_->shares.front().arrived.store(sum.packets, std::memory_order_relaxed);
  return {};
}

std::size_t Mesh::bytes() const { return internal::bytes_of(impl_->state); }

bool Mesh::is_empty() const {
  const internal::State& state = impl_->state;
  const bool sources_done =
      std::all_of(state.wake.begin(), state.wake.end(), [](Cycle wake) { return wake == kNever; });
  return sources_done && has_no_flits();
}

}  // namespace dojo::mesh
