// Facts as text: parsing a value with the limits of its key, listing, and setting one.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "dojo/base/result.h"
#include "dojo/base/text.h"
#include "dojo/machine/internal/facts.h"

namespace dojo::machine::internal {

// An error about the fact `key`; `found` as the file writes it.
inline Error fact_error(std::string_view path, std::string_view what,
                        const std::optional<Location>& where) {
  return Error{ErrorKind::InvalidInput, fmt::format("{}: {}", path, what), where};
}

// The value in `text`, within the limits of the key. `found` is how to show it in an error.
template <class T>
Result<T> parse_fact_value(const FactKey& key, std::string_view text, std::string_view found,
                           const std::optional<Location>& where) {
  auto value = ValueText<T>::parse(text);
  if (!value.has_value()) {
    return fact_error(key.path, fmt::format("found {}, {}", found, value.error().message), where);
  }
  if (!key.low.empty() && !ValueText<T>::is_within(*value, *ValueText<T>::parse(key.low),
                                                   *ValueText<T>::parse(key.high))) {
    return fact_error(key.path,
                      fmt::format("found {}, expected between {} and {}", found, key.low, key.high),
                      where);
  }
  return value;
}

// Error unless low <= value <= high, and an assumed fact can be swept.
template <class T>
Result<void> check_sweep(const FactKey& key, const Fact<T>& fact) {
  if (fact.range.has_value() &&
      !ValueText<T>::is_within(fact.value, fact.range->low, fact.range->high)) {
    return fact_error(
        key.path,
        fmt::format("value {} is outside of its range {} to {}", ValueText<T>::print(fact.value),
                    ValueText<T>::print(fact.range->low), ValueText<T>::print(fact.range->high)),
        fact.where);
  }
  if (fact.provenance == Provenance::Assumed && key.affects == Affects::Time) {
    if (ValueText<T>::kIsNumber && !fact.range.has_value()) {
      return fact_error(key.path, "is assumed and affects time: expected range = [low, high]",
                        fact.where);
    }
    if (!ValueText<T>::kIsNumber && fact.alternatives.empty()) {
      return fact_error(key.path, "is assumed and affects time: expected alternatives = [...]",
                        fact.where);
    }
  }
  return {};
}

}  // namespace dojo::machine::internal
