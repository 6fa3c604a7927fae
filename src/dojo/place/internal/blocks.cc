#include "dojo/place/internal/blocks.h"

namespace dojo::place::internal {

std::string block_of(const std::string& module) {
  const auto end_of_number = [&](std::size_t from) {
    const auto digit = module.find_first_of("0123456789", from);
    return digit == std::string::npos ? digit : module.find('.', digit);
  };
  if (module.find_first_of("0123456789") == std::string::npos) {
    return {};
  }
  const auto first = end_of_number(0);
  const auto second = first == std::string::npos ? first : end_of_number(first);
  return module.substr(0, second == std::string::npos ? first : second);
}

}  // namespace dojo::place::internal
