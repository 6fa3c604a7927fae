#include "dojo/mesh/messages.h"

#include <algorithm>

#include <fmt/format.h>

#include "dojo/base/check.h"
#include "dojo/mesh/internal/check_messages.h"

namespace dojo::mesh {

MessageId MessageTrace::add(Message message, std::span<const Dependency> after,
                            std::span<const RouterId> more) {
  message.first_dependency = static_cast<std::uint32_t>(dependencies.size());
  message.dependencies = static_cast<std::uint32_t>(after.size());
  dependencies.insert(dependencies.end(), after.begin(), after.end());
  message.first_more = static_cast<std::uint32_t>(more_targets.size());
  message.more = static_cast<std::uint32_t>(more.size());
  more_targets.insert(more_targets.end(), more.begin(), more.end());
  messages.push_back(message);
  return {static_cast<std::uint32_t>(messages.size() - 1)};
}

std::span<const Dependency> MessageTrace::dependencies_of(MessageId id) const {
  const Message& message = messages[id.index];
  return std::span(dependencies).subspan(message.first_dependency, message.dependencies);
}

std::span<const RouterId> MessageTrace::more_targets_of(MessageId id) const {
  const Message& message = messages[id.index];
  return std::span(more_targets).subspan(message.first_more, message.more);
}

std::vector<RouterId> MessageTrace::targets_of(MessageId id) const {
  std::vector<RouterId> targets{messages[id.index].target};
  const std::span<const RouterId> more = more_targets_of(id);
  targets.insert(targets.end(), more.begin(), more.end());
  return targets;
}

std::int64_t MessageTrace::flits() const {
  std::int64_t sum = 0;
  for (const Message& message : messages) {
    sum += message.flits * message.targets();
  }
  return sum;
}

std::int32_t MessageTrace::phases() const {
  return messages.empty() ? 0 : messages.back().phase + 1;
}

Dependency whole(const MessageTrace& trace, MessageId on, Cycles delay) {
  return {.on = on, .first = trace.messages[on.index].packets(), .stride = 0, .delay = delay};
}

Dependency streamed(MessageId on, Cycles delay) {
  return {.on = on, .first = 1, .stride = 1, .delay = delay};
}

std::vector<MessageId> dependency_circle(const MessageTrace& trace) {
  enum class State : std::uint8_t { New, OnTheWay, Done };
  struct Step {
    MessageId at;
    std::size_t next;  // of its dependencies
  };
  std::vector<State> states(trace.messages.size(), State::New);
  std::vector<Step> way;
  const auto enter = [&](MessageId id) {
    states[id.index] = State::OnTheWay;
    way.push_back({id, 0});
  };
  for (std::uint32_t start = 0; start < trace.messages.size(); ++start) {
    if (states[start] == State::New) {
      enter({start});
    }
    while (!way.empty()) {
      Step& step = way.back();
      const std::span<const Dependency> after = trace.dependencies_of(step.at);
      if (step.next == after.size()) {
        states[step.at.index] = State::Done;
        way.pop_back();
        continue;
      }
      const MessageId on = after[step.next++].on;
      if (states[on.index] == State::New) {
        enter(on);
      } else if (states[on.index] == State::OnTheWay) {
        const auto first =
            std::find_if(way.begin(), way.end(), [&](const Step& each) { return each.at == on; });
        std::vector<MessageId> circle;
        std::transform(first, way.end(), std::back_inserter(circle),
                       [](const Step& each) { return each.at; });
        return circle;
      }
    }
  }
  return {};
}

Result<void> check_trace(const MessageTrace& trace, const Topology& topology) {
  return internal::check_messages(
      trace, topology,
      {.name = [](MessageId id) { return fmt::format("m{}", id.index); },
       .where = [](MessageId) -> std::optional<Location> { return std::nullopt; }});
}

}  // namespace dojo::mesh
