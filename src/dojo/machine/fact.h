// Fact: a value of a machine description together with where it comes from. Lives in machine/
// alone; everyone else takes the plain resolved MachineModel.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/result.h"

namespace dojo::machine {

enum class Provenance : std::uint8_t {
  Published,  // the source says it; cited in docs/sources.md
  Inferred,   // follows from published values; the source field holds the derivation
  Assumed,    // nobody says; can be swept
};
std::string_view name(Provenance provenance);  // "published", "inferred", "assumed"
std::optional<Provenance> provenance_named(std::string_view name);

template <class T>
struct Range {
  T low;
  T high;
};

template <class T>
struct Fact {
  T value{};
  Provenance provenance = Provenance::Assumed;
  std::string source;
  std::vector<T> alternatives;    // what sources that disagree say, or other choices to try
  std::optional<Range<T>> range;  // low <= value <= high; the ends that sweeps go to
  std::optional<Location> where;  // in the machine file; none if set by with_fact
};

}  // namespace dojo::machine
