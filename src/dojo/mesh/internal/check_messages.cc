#include "dojo/mesh/internal/check_messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace dojo::mesh::internal {

namespace {

class Checker {
 public:
  Checker(const MessageTrace& trace, const Topology& topology, const MessageLabels& labels)
      : trace_(trace), topology_(topology), labels_(labels) {}

  Result<void> check() const;

 private:
  Error invalid(MessageId at, const std::string& what) const {
    return {ErrorKind::InvalidInput, fmt::format("message {}: {}", labels_.name(at), what),
            labels_.where(at)};
  }
  Result<void> check_range(MessageId at, const char* what, std::int64_t value, std::int64_t low,
                           std::int64_t high) const {
    if (value < low || value > high) {
      return invalid(at, fmt::format("{} is {}, expected {}..{}", what, value, low, high));
    }
    return {};
  }
  Result<void> check_ends(MessageId at) const;
  Result<void> check_sizes(MessageId at) const;
  Result<void> check_dependency(MessageId at, const Dependency& after) const;
  Result<void> check_counts() const;

  const MessageTrace& trace_;
  const Topology& topology_;
  const MessageLabels& labels_;
};

Result<void> Checker::check_ends(MessageId at) const {
  const Message& message = trace_.messages[at.index];
  std::vector<RouterId> targets = trace_.targets_of(at);
  std::vector<RouterId> ends = targets;
  ends.push_back(message.source);
  for (const RouterId end : ends) {
    if (end.index >= topology_.routers()) {
      return invalid(
          at, fmt::format("router {} is none of the network's {}", end.index, topology_.routers()));
    }
    if (!topology_.has_node(end)) {
      return invalid(at, fmt::format("no node is alive at {}", topology_.describe(end)));
    }
  }
  for (const RouterId target : targets) {
    if (topology_.plane_of(message.source) != topology_.plane_of(target)) {
      return invalid(
          at, fmt::format("{} and {} are on different planes", topology_.describe(message.source),
                          topology_.describe(target)));
    }
  }
  std::sort(targets.begin(), targets.end());
  const auto twice = std::adjacent_find(targets.begin(), targets.end());
  if (twice != targets.end()) {
    return invalid(at, fmt::format("goes to {} twice", topology_.describe(*twice)));
  }
  return {};
}

Result<void> Checker::check_sizes(MessageId at) const {
  using L = TraceLimits;
  const Message& message = trace_.messages[at.index];
  DOJO_TRY_VOID(check_range(at, "flits", message.flits, 1, L::kFlits));
  DOJO_TRY_VOID(check_range(at, "packet", message.packet_flits, 1, L::kPacketFlits));
  if (message.more > 0 && message.packet_flits != 1) {
    return invalid(at, fmt::format("goes to {} nodes in packets of {} flits, expected 1",
                                   message.targets(), message.packet_flits));
  }
  DOJO_TRY_VOID(check_range(at, "start", message.start.count(), 0, L::kCycles));
  DOJO_TRY_VOID(check_range(at, "pace's denominator", message.pace.den, 1, L::kPaceDenominator));
  return check_range(at, "pace's numerator", message.pace.num, 1, message.pace.den);
}

Result<void> Checker::check_dependency(MessageId at, const Dependency& after) const {
  const Message& message = trace_.messages[at.index];
  if (after.on.index >= trace_.messages.size()) {
    return invalid(
        at, fmt::format("waits for message {} of {}", after.on.index, trace_.messages.size()));
  }
  const Message& other = trace_.messages[after.on.index];
  if (other.phase != message.phase) {
    return invalid(at, fmt::format("waits for {} of phase {}, but is in phase {}",
                                   labels_.name(after.on), other.phase, message.phase));
  }
  const std::span<const RouterId> more = trace_.more_targets_of(after.on);
  if (other.target != message.source &&
      std::find(more.begin(), more.end(), message.source) == more.end()) {
    return invalid(at, fmt::format("waits for {}, which does not arrive at {}, where {} starts",
                                   labels_.name(after.on), topology_.describe(message.source),
                                   labels_.name(at)));
  }
  const std::int64_t limit = TraceLimits::kFlits;
  DOJO_TRY_VOID(check_range(at, "delay", after.delay.count(), 0, TraceLimits::kCycles));
  DOJO_TRY_VOID(check_range(at, "first", after.first, -limit, limit));
  DOJO_TRY_VOID(check_range(at, "stride", after.stride, 0, TraceLimits::kStride));
  const std::int64_t most = after.first + after.stride * (message.packets() - 1);
  if (most > other.packets()) {
    return invalid(at, fmt::format("waits for {} packets of {}, which has {}", most,
                                   labels_.name(after.on), other.packets()));
  }
  return {};
}

Result<void> Checker::check_counts() const {
  const auto check = [](const char* what, std::size_t count, std::int64_t limit) -> Result<void> {
    if (static_cast<std::int64_t>(count) > limit) {
      return Error{ErrorKind::DoesNotFit,
                   fmt::format("a trace of {} {}, expected at most {}", count, what, limit)};
    }
    return {};
  };
  DOJO_TRY_VOID(check("messages", trace_.messages.size(), TraceLimits::kMessages));
  DOJO_TRY_VOID(check("further targets", trace_.more_targets.size(), TraceLimits::kTargets));
  return check("dependencies", trace_.dependencies.size(), TraceLimits::kDependencies);
}

Result<void> Checker::check() const {
  DOJO_TRY_VOID(check_counts());
  std::int64_t flits = 0;
  std::int32_t phase = 0;
  for (std::uint32_t i = 0; i < trace_.messages.size(); ++i) {
    const MessageId at{i};
    const Message& message = trace_.messages[i];
    DOJO_TRY_VOID(check_ends(at));
    DOJO_TRY_VOID(check_sizes(at));
    flits += message.flits * message.targets();
    DOJO_TRY_VOID(check_range(at, "the sum of flits up to here", flits, 1, TraceLimits::kFlits));
    DOJO_TRY_VOID(check_range(at, "phase", message.phase, phase, TraceLimits::kPhases));
    phase = message.phase;
    for (const Dependency& after : trace_.dependencies_of(at)) {
      DOJO_TRY_VOID(check_dependency(at, after));
    }
  }
  const std::vector<MessageId> circle = dependency_circle(trace_);
  if (circle.empty()) {
    return {};
  }
  std::string names;
  for (const MessageId id : circle) {
    names += labels_.name(id) + " waits for ";
  }
  return Error{ErrorKind::InvalidInput,
               fmt::format("circular dependency: {}{}", names, labels_.name(circle.front())),
               labels_.where(circle.front())};
}

}  // namespace

Result<void> check_messages(const MessageTrace& trace, const Topology& topology,
                            const MessageLabels& labels) {
  return Checker(trace, topology, labels).check();
}

}  // namespace dojo::mesh::internal
