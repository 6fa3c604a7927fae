// The inside of Mesh: its state, and the threads that move it.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "dojo/base/thread_pool.h"
#include "dojo/mesh/internal/kernel.h"
#include "dojo/mesh/internal/state.h"
#include "dojo/mesh/mesh.h"

namespace dojo::mesh {

// A thread simulates a range of routers. It may start cycle t when the others whose routers its own
// touch have finished t - (shortest delay between routers): what they send later is due later.
// One counter per thread says how far it is; there are no barriers.
struct Mesh::Impl {
  struct alignas(128) Share {
    std::vector<std::uint32_t> blocks;  // in the order of visiting
    std::vector<std::size_t> near;      // shares it exchanges flits with
    std::vector<std::size_t> others;    // all but itself
    Counters counters;
    std::atomic<std::uint64_t> arrived{0};  // packets
    std::atomic<Cycle> done{0};             // cycles finished
  };

  internal::State state;
  internal::CycleFunction cycle = nullptr;
  Cycle now = 0;
  std::vector<Share> shares;
  ThreadPool pool;

  Impl(internal::State first, int threads)
      : state(std::move(first)), shares(threads), pool(threads) {}

  // As Mesh::make says.
  static Result<std::unique_ptr<Impl>> make(const Topology& topology, const RoutingTable& routing,
                                            const RouterConfig& router, const Traffic& traffic,
                                            const MeshOptions& options);

  // All shares to `end`; or until so many packets are at their nodes, the shares then within
  // eject_delay of each other, none of them beyond the cycle after the last arrival.
  void run_until(Cycle end, std::optional<std::uint64_t> packets) {
    if (shares.size() == 1) {
      run_share(0, end, packets);
    } else {
      pool.parallel_for(static_cast<std::int64_t>(shares.size()), 1,
                        [&](std::int64_t begin, std::int64_t /*end*/) {
                          run_share(static_cast<std::size_t>(begin), end, packets);
                        });
    }
    now = shares.front().done.load(std::memory_order_relaxed);
    for (const Share& share : shares) {
      now = std::max(now, share.done.load(std::memory_order_relaxed));
    }
  }

  // Stops early, each share by itself, when so many packets are at their nodes.
  void run_share(std::size_t index, Cycle end, std::optional<std::uint64_t> packets) {
    Share& share = shares[index];
    // Not so far that a share would go beyond the cycle after the last arrival.
    const auto ahead = static_cast<Cycle>(
        std::min({state.config.flit_delay, state.config.credit_delay,
                  packets.has_value() ? state.config.eject_delay + 1 : kMaxDelay}));
    const Cycle start = share.done.load(std::memory_order_relaxed);
    for (Cycle t = start; t < end; ++t) {
      const Cycle wanted = t < ahead ? 0 : t - ahead + 1;
      for (const std::size_t other : packets.has_value() ? share.others : share.near) {
        wait_for(shares[other].done, wanted, packets);
      }
      if (packets.has_value() && arrived() >= *packets) {
        return;
      }
      cycle(state, share.counters, share.blocks, t);
      share.arrived.store(share.counters.packets, std::memory_order_relaxed);
      share.done.store(t + 1, std::memory_order_release);
    }
  }

  std::uint64_t arrived() const {
    std::uint64_t sum = 0;
    for (const Share& share : shares) {
      sum += share.arrived.load(std::memory_order_acquire);
    }
    return sum;
  }

  // Or until so many packets have arrived: then the other may have stopped.
  void wait_for(const std::atomic<Cycle>& done, Cycle wanted,
                std::optional<std::uint64_t> packets) const {
    constexpr int kSpins = 2000;
    for (int spins = 0; done.load(std::memory_order_acquire) < wanted; ++spins) {
      if (packets.has_value() && arrived() >= *packets) {
        return;
      }
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
    for (std::uint32_t i = 0; i < count; ++i) {
      Share& share = shares[i];
      for (std::uint32_t j = 0; j < count; ++j) {
        if (j != i) {
          share.others.push_back(j);
        }
      }
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

}  // namespace dojo::mesh
