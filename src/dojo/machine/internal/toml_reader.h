// Reads machine files as far as TOML goes: sections, keys and the parts of each fact as text with
// their places, includes followed and overridden. What the texts mean is typed later.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/machine/description.h"
#include "dojo/machine/fact.h"

namespace dojo::machine::internal {

// One value: what it says and how the file writes it.
struct RawValue {
  std::string text;     // without quotes; the items of a list joined by spaces
  std::string written;  // for messages
  bool is_list = false;
};

struct RawFact {
  RawValue value;
  Provenance provenance = Provenance::Assumed;
  std::string source;
  std::vector<RawValue> alternatives;
  std::vector<RawValue> range;  // empty, or low and high
  Location where;
};

struct RawDescription {
  std::string name;
  std::string title;
  std::map<std::string, RawFact, std::less<>> facts;      // by path
  std::map<std::string, Location, std::less<>> sections;  // by name, where first declared
};

// `paths` are all keys there are. `reader` as parse_description has it.
Result<RawDescription> read_raw(std::string_view toml, const std::string& file,
                                const IncludeReader& reader, const std::vector<std::string>& paths);

// The text of a shipped machine file ("d1.toml").
Result<std::string> read_shipped(const std::string& file_name);

}  // namespace dojo::machine::internal
