#include "dojo/machine/description.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "dojo/base/text.h"
#include "dojo/machine/internal/fact_text.h"
#include "dojo/machine/internal/facts.h"

namespace dojo::machine {
namespace {

using internal::FactKey;
using internal::ValueText;

constexpr std::array<std::string_view, 3> kProvenanceNames{"published", "inferred", "assumed"};

template <class T>
FactLine to_line(const FactKey& key, const Fact<T>& fact) {
  FactLine line{.path = std::string(key.path),
                .value = ValueText<T>::print(fact.value),
                .provenance = fact.provenance,
                .source = fact.source,
                .alternatives = {},
                .range = std::nullopt,
                .affects = key.affects,
                .meaning = std::string(key.meaning)};
  for (const T& alternative : fact.alternatives) {
    line.alternatives.push_back(ValueText<T>::print(alternative));
  }
  if (fact.range.has_value()) {
    line.range = Range<std::string>{.low = ValueText<T>::print(fact.range->low),
                                    .high = ValueText<T>::print(fact.range->high)};
  }
  return line;
}

// Sets the fact by hand: it is Assumed from now on, and can be swept back to what it was.
template <class T>
Result<void> set_by_hand(const FactKey& key, Fact<T>& fact, std::string_view text) {
  std::string with_unit(text);
  const std::string before = ValueText<T>::print(fact.value);
  const std::string_view unit = internal::unit_of(before);
  if (!unit.empty() && parse_double(text).has_value()) {
    with_unit += fmt::format(" {}", unit);
  }
  DOJO_TRY(T value, internal::parse_fact_value<T>(key, with_unit, quoted(text), std::nullopt));
  fact.source =
      fmt::format("set by hand; was {} ({}, {})", before, name(fact.provenance), fact.source);
  fact.provenance = Provenance::Assumed;
  fact.where = std::nullopt;
  if constexpr (ValueText<T>::kIsNumber) {
    if (!fact.range.has_value()) {
      fact.range = Range<T>{.low = fact.value, .high = fact.value};
    }
    if (!ValueText<T>::is_within(value, fact.range->low, value)) {
      fact.range->low = value;
    }
    if (!ValueText<T>::is_within(value, value, fact.range->high)) {
      fact.range->high = value;
    }
  } else {
    fact.alternatives.push_back(fact.value);
  }
  fact.value = std::move(value);
  return {};
}

}  // namespace

std::string_view name(Provenance provenance) {
  return kProvenanceNames[static_cast<std::size_t>(provenance)];
}

std::optional<Provenance> provenance_named(std::string_view name) {
  for (std::size_t i = 0; i < kProvenanceNames.size(); ++i) {
    if (kProvenanceNames[i] == name) {
      return static_cast<Provenance>(i);
    }
  }
  return std::nullopt;
}

Description::Description(std::string name, std::string title, Facts facts)
    : name_(std::move(name)),
      title_(std::move(title)),
      facts_(std::make_unique<Facts>(std::move(facts))) {}
Description::Description(const Description& other)
    : Description(other.name_, other.title_, *other.facts_) {}
Description::Description(Description&& other) noexcept = default;
Description& Description::operator=(const Description& other) { return *this = Description(other); }
Description& Description::operator=(Description&& other) noexcept = default;
Description::~Description() = default;

std::vector<FactLine> list_facts(const Description& description) {
  std::vector<FactLine> lines;
  internal::visit_facts(description.facts(), [&](const FactKey& key, const auto& fact) {
    lines.push_back(to_line(key, fact));
  });
  return lines;
}

std::vector<FactLine> assumed_facts(const Description& description) {
  std::vector<FactLine> lines = list_facts(description);
  std::erase_if(lines, [](const FactLine& line) { return line.provenance != Provenance::Assumed; });
  return lines;
}

Result<Description> with_fact(const Description& description, std::string_view path,
                              std::string_view value) {
  Facts facts = description.facts();
  std::optional<Result<void>> set;
  std::vector<std::string> paths;
  internal::visit_facts(facts, [&](const FactKey& key, auto& fact) {
    paths.emplace_back(key.path);
    if (key.path == path) {
      set = set_by_hand(key, fact, value);
    }
  });
  if (!set.has_value()) {
    return Error{ErrorKind::NotFound, fmt::format("machine {} has no fact {}{}", description.name(),
                                                  quoted(path), suggestion(path, paths))};
  }
  DOJO_TRY_VOID(std::move(*set));
  if (auto checked = internal::check_facts(facts); !checked.has_value()) {
    // Names the fact that no longer fits; its place in a file would mislead.
    return Error{ErrorKind::InvalidInput,
                 fmt::format("with {} = {}: {}", path, value, checked.error().message)};
  }
  return Description(description.name(), description.title(), std::move(facts));
}

}  // namespace dojo::machine
