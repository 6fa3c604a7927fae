// Description: a machine as its file tells it, every number a Fact with its source. This header is
// for those who ask where a number comes from, change one, or list the assumed ones; whoever only
// computes takes the MachineModel that resolve() makes of it.
//
//   machines/*.toml --parse--> Description --resolve--> MachineModel
//
// Every fact has one path, "node.t0" or "mesh.die.link": section and key of the file. The keys,
// their units and meanings stand in one table (visit_facts in internal/facts.h, docs/machine.md).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/machine/fact.h"
#include "dojo/machine/machine_model.h"

namespace dojo::machine {

struct Facts;  // the typed facts, section by section: internal/facts.h

// A value type: copies are equal and independent. Only the functions below make one, so its facts
// always hold together (internal::check_facts).
class Description {
 public:
  Description(std::string name, std::string title, Facts facts);
  Description(const Description& other);
  Description(Description&& other) noexcept;
  Description& operator=(const Description& other);
  Description& operator=(Description&& other) noexcept;
  ~Description();

  const std::string& name() const { return name_; }    // "training-tile"
  const std::string& title() const { return title_; }  // one line for lists
  const Facts& facts() const { return *facts_; }

 private:
  std::string name_;
  std::string title_;
  std::unique_ptr<Facts> facts_;
};

// Names of the machines that come with the program, sorted.
std::vector<std::string> shipped_machines();

// A shipped machine by name, or any machine file by path (a name with a '/' or ending in ".toml").
// Errors are "file:line: what was found, what was expected"; an unknown name gives the nearest.
Result<Description> load_description(std::string_view name_or_path);

// Reads the text of an included file; the argument is as `include` writes it, the directory of the
// including file in front.
using IncludeReader = std::function<Result<std::string>(const std::string& path)>;

// The same for a text; `file` is what errors call it. Without a reader, `include` can name shipped
// machines only ("d1" or "d1.toml").
Result<Description> parse_description(std::string_view toml, const std::string& file,
                                      const IncludeReader& reader = {});

// The plain numbers. Never fails: a Description's facts hold together.
MachineModel resolve(const Description& description);

// What is odd about a machine without being wrong, one sentence each: energy constants that
// contradict the power totals. Empty for the shipped machines.
std::vector<std::string> cautions(const MachineModel& machine);

// load_description and resolve in one.
Result<MachineModel> load_machine(std::string_view name_or_path);

// What a fact moves when it changes.
enum class Affects : std::uint8_t { Time, Energy, Nothing };

// One fact as text; values have the form that a machine file and with_fact take.
struct FactLine {
  std::string path;
  std::string value;
  Provenance provenance = Provenance::Assumed;
  std::string source;
  std::vector<std::string> alternatives;
  std::optional<Range<std::string>> range;
  Affects affects = Affects::Time;
  std::string meaning;  // one sentence, from the table of keys
};

// Every fact of the machine, in the order of the table.
std::vector<FactLine> list_facts(const Description& description);

// Those that are Assumed. Each that affects time has a range, or alternatives if it is no number.
std::vector<FactLine> assumed_facts(const Description& description);

// The machine with one fact changed: value "16 cycles", or "16" in the unit that the fact has now.
// Checked like a file. The changed fact is Assumed, its source says what it was before.
Result<Description> with_fact(const Description& description, std::string_view path,
                              std::string_view value);

}  // namespace dojo::machine
