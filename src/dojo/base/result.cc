#include "dojo/base/result.h"

#include <fmt/format.h>

namespace dojo {

std::string Error::to_string() const {
  if (!where.has_value()) {
    return message;
  }
  if (where->column > 0) {
    return fmt::format("{}:{}:{}: {}", where->file, where->line, where->column, message);
  }
  return fmt::format("{}:{}: {}", where->file, where->line, message);
}

}  // namespace dojo
