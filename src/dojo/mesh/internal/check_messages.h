// check_trace for callers that know names and places of messages.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "dojo/base/result.h"
#include "dojo/mesh/messages.h"

namespace dojo::mesh::internal {

struct MessageLabels {
  std::function<std::string(MessageId)> name{};
  std::function<std::optional<Location>(MessageId)> where{};
};

Result<void> check_messages(const MessageTrace& trace, const Topology& topology,
                            const MessageLabels& labels);

}  // namespace dojo::mesh::internal
