#include "dojo/mesh/internal/saved_state.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <type_traits>

namespace dojo::mesh::internal {
namespace {

constexpr std::string_view kMagic = "dojo mesh state 3\n";

// What a saved state belongs to. Everything else about machine and traffic is the caller's to keep.
struct Header {
  RouterConfig config;
  std::uint32_t routers = 0;
  std::uint32_t columns = 0;
  std::int32_t packet_flits = 0;
  friend bool operator==(const Header&, const Header&) = default;
};

Header header_of(const State& state) {
  return {state.config, state.routers, state.columns, state.traffic.packet_flits()};
}

// Every part of the state that changes, in order.
template <class Use>
void for_each_part(State& state, Cycle& now, Counters& counters, const Use& use) {
  const auto one = [&](auto& value) { use(std::as_writable_bytes(std::span(&value, 1))); };
  const auto all = [&](auto& values) { use(std::as_writable_bytes(std::span(values))); };
  one(now);
  one(counters);
  one(state.counted_mark);
  one(state.drain_start);
  use(state.aligned_blocks());
  all(state.fifo);
  all(state.source_at);
  all(state.arrivals);
  all(state.credits);
  all(state.choices);
  if (state.trees != nullptr) {
    use(State::aligned(state.copy_bytes));
  }
  all(state.next_copy);
  all(state.stirred);
  all(state.longs.senders);
  all(state.longs.receivers);
  all(state.longs.flits);
  all(state.longs.arrivals);
  all(state.longs.credits);
  all(state.longs.queued);
  all(state.longs.offer_at);
  all(state.wake);
  all(state.sources);
}

}  // namespace

std::string to_bytes(const State& state, Cycle now, const Counters& counters) {
  const Header header = header_of(state);
  std::string bytes(kMagic);
  bytes.append(reinterpret_cast<const char*>(&header), sizeof header);
  Counters sum = counters;
  // Only read from.
  for_each_part(const_cast<State&>(state), now, sum, [&](std::span<std::byte> part) {
    bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
  });
  return bytes;
}

Result<void> from_bytes(std::string_view bytes, State& state, Cycle& now, Counters& counters) {
  if (!bytes.starts_with(kMagic) || bytes.size() < kMagic.size() + sizeof(Header)) {
    return Error{ErrorKind::InvalidInput, "not a saved state of a mesh"};
  }
  Header header;
  std::memcpy(&header, bytes.data() + kMagic.size(), sizeof header);
  std::size_t expected = kMagic.size() + sizeof header;
  for_each_part(state, now, counters, [&](std::span<std::byte> part) { expected += part.size(); });
  if (!(header == header_of(state)) || bytes.size() != expected) {
    return Error{ErrorKind::InvalidInput, "the saved state is of another mesh or traffic"};
  }
  bytes.remove_prefix(kMagic.size() + sizeof header);
  for_each_part(state, now, counters, [&](std::span<std::byte> part) {
    std::ranges::copy(std::as_bytes(std::span(bytes.substr(0, part.size()))), part.begin());
    bytes.remove_prefix(part.size());
  });
  return {};
}

}  // namespace dojo::mesh::internal
