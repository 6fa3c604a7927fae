// Machine files to Descriptions: texts of toml_reader become typed facts, each checked.
#include <fmt/format.h>

#include <filesystem>
#include <utility>

#include "dojo/base/text.h"
#include "dojo/machine/description.h"
#include "dojo/machine/internal/fact_text.h"
#include "dojo/machine/internal/facts.h"
#include "dojo/machine/internal/shipped_files.h"
#include "dojo/machine/internal/toml_reader.h"

namespace dojo::machine {
namespace {

using internal::FactKey;
using internal::RawFact;
using internal::RawValue;
using internal::ValueText;

template <class T>
inline constexpr bool kIsList = false;
template <class T>
inline constexpr bool kIsList<std::vector<T>> = true;

template <class T>
Result<T> to_value(const FactKey& key, const RawValue& raw, const Location& where) {
  if (raw.is_list && !kIsList<T>) {
    return internal::fact_error(
        key.path, fmt::format("found {}, expected {}", raw.written, ValueText<T>::expected()),
        where);
  }
  return internal::parse_fact_value<T>(key, raw.text, raw.written, where);
}

template <class T>
Result<Fact<T>> to_fact(const FactKey& key, const RawFact& raw) {
  Fact<T> fact{.value = {},
               .provenance = raw.provenance,
               .source = raw.source,
               .alternatives = {},
               .range = std::nullopt,
               .where = raw.where};
  DOJO_TRY(fact.value, to_value<T>(key, raw.value, raw.where));
  for (const RawValue& alternative : raw.alternatives) {
    DOJO_TRY(T value, to_value<T>(key, alternative, raw.where));
    fact.alternatives.push_back(std::move(value));
  }
  if (!raw.range.empty()) {
    if constexpr (ValueText<T>::kIsNumber) {
      DOJO_TRY(T low, to_value<T>(key, raw.range[0], raw.where));
      DOJO_TRY(T high, to_value<T>(key, raw.range[1], raw.where));
      fact.range = Range<T>{.low = low, .high = high};
    } else {
      return internal::fact_error(
          key.path, "a range needs numbers, expected alternatives = [...] for other choices",
          raw.where);
    }
  }
  return fact;
}

// Gives `facts` the optional sections that `has` says are there.
template <class Has>
void make_sections(Facts& facts, const Has& has) {
  const auto make = [&](auto& section, std::string_view name) {
    if (has(name)) {
      section.emplace();
    }
  };
  make(facts.mesh_router, "mesh.router");
  make(facts.tile, "tile");
  make(facts.tray, "tray");
  make(facts.pod, "pod");
  make(facts.interface, "interface");
  make(facts.host, "host");
  make(facts.dram, "dram");
}

// The paths of all facts there are.
std::vector<std::string> all_paths() {
  Facts facts;
  make_sections(facts, [](std::string_view) { return true; });
  std::vector<std::string> paths;
  internal::visit_facts(facts,
                        [&](const FactKey& key, const auto&) { paths.emplace_back(key.path); });
  return paths;
}

// The section of a path: "mesh.die" of "mesh.die.link".
std::string_view section_of(std::string_view path) { return path.substr(0, path.rfind('.')); }

Result<void> check_sections(const internal::RawDescription& raw, const std::string& file) {
  for (const internal::Section& section : internal::kSections) {
    if (section.is_required && !raw.sections.contains(section.name)) {
      return Error{ErrorKind::InvalidInput,
                   fmt::format("missing section [{}], expected it here or in a file that include "
                               "names, as in include = \"d1\"",
                               section.name),
                   Location{.file = file, .line = 1, .column = 0}};
    }
  }
  return {};
}

Result<Facts> to_facts(const internal::RawDescription& raw) {
  Facts facts;
  make_sections(facts, [&](std::string_view name) { return raw.sections.contains(name); });
  std::optional<Error> first;
  internal::visit_facts(facts, [&]<class T>(const FactKey& key, Fact<T>& fact) {
    if (first.has_value()) {
      return;
    }
    const auto found = raw.facts.find(key.path);
    if (found == raw.facts.end()) {
      first = Error{ErrorKind::InvalidInput,
                    fmt::format("missing {} ({}), expected {} = {{ value = ..., status = ..., "
                                "source = ... }}",
                                key.path, key.meaning, key.path.substr(key.path.rfind('.') + 1)),
                    raw.sections.find(section_of(key.path))->second};
      return;
    }
    auto typed = to_fact<T>(key, found->second);
    if (typed.has_value()) {
      fact = *std::move(typed);
    } else {
      first = typed.error();
    }
  });
  if (first.has_value()) {
    return *first;
  }
  return facts;
}

constexpr std::string_view kSuffix = ".toml";

}  // namespace

std::vector<std::string> shipped_machines() {
  std::vector<std::string> names;
  for (const internal::ShippedFile& file : internal::shipped_files()) {
    names.emplace_back(file.name.substr(0, file.name.size() - kSuffix.size()));
  }
  return names;
}

Result<Description> parse_description(std::string_view toml, const std::string& file,
                                      const IncludeReader& reader) {
  DOJO_TRY(internal::RawDescription raw, internal::read_raw(toml, file, reader, all_paths()));
  DOJO_TRY_VOID(check_sections(raw, file));
  DOJO_TRY(Facts facts, to_facts(raw));
  DOJO_TRY_VOID(internal::check_facts(facts));
  return Description(std::move(raw.name), std::move(raw.title), std::move(facts));
}

Result<Description> load_description(std::string_view name_or_path) {
  const std::string name(name_or_path);
  if (name.find('/') != std::string::npos || name.ends_with(kSuffix)) {
    const std::string path = std::filesystem::path(name).lexically_normal().string();
    DOJO_TRY(const std::string text, read_file(path));
    return parse_description(text, path, read_file);
  }
  auto text = internal::read_shipped(name + std::string(kSuffix));
  if (!text.has_value()) {
    Error error = std::move(text).error();
    error.message += "; a file needs a '/' or \".toml\" in its path";
    return error;
  }
  return parse_description(*text, "machines/" + name + std::string(kSuffix));
}

Result<MachineModel> load_machine(std::string_view name_or_path) {
  DOJO_TRY(const Description description, load_description(name_or_path));
  return resolve(description);
}

}  // namespace dojo::machine
