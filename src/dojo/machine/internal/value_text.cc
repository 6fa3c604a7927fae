#include "dojo/machine/internal/value_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <span>

#include "dojo/base/text.h"
#include "dojo/machine/internal/cursor.h"

namespace dojo::machine::internal {
namespace {

struct Unit {
  std::string_view name;
  double scale;  // in the unit the type counts in
};

// Of each kind from small to large; printing picks the largest that leaves a number of at least 1.
struct UnitKind {
  std::string_view expected;
  std::span<const Unit> print_units;
  std::span<const Unit> other_units;  // read, never printed
};

constexpr std::array kHertz{Unit{"Hz", 1}, Unit{"kHz", 1e3}, Unit{"MHz", 1e6}, Unit{"GHz", 1e9}};
constexpr std::array kBytes{Unit{"B", 1}, Unit{"KB", 1e3}, Unit{"MB", 1e6}, Unit{"GB", 1e9},
                            Unit{"TB", 1e12}};
constexpr std::array kBinaryBytes{Unit{"kB", 1e3}, Unit{"KiB", 1024.0}, Unit{"MiB", 1048576.0},
                                  Unit{"GiB", 1073741824.0}, Unit{"TiB", 1099511627776.0}};
constexpr std::array kBytesPerCycle{Unit{"B/cycle", 1}};
constexpr std::array kBytesPerSecond{Unit{"B/s", 1}, Unit{"KB/s", 1e3}, Unit{"MB/s", 1e6},
                                     Unit{"GB/s", 1e9}, Unit{"TB/s", 1e12}};
constexpr std::array kCycles{Unit{"cycles", 1}};
constexpr std::array kOneCycle{Unit{"cycle", 1}};
constexpr std::array kSeconds{Unit{"ps", 1}, Unit{"ns", 1e3}, Unit{"us", 1e6}, Unit{"ms", 1e9},
                              Unit{"s", 1e12}};
constexpr std::array kWatts{Unit{"W", 1}, Unit{"kW", 1e3}, Unit{"MW", 1e6}};
constexpr std::array kVolts{Unit{"V", 1}};
constexpr std::array kAmperes{Unit{"A", 1}, Unit{"kA", 1e3}};
constexpr std::array kPicojoules{Unit{"pJ", 1}};
constexpr std::array kPicojoulesPerByte{Unit{"pJ/B", 1}};

constexpr UnitKind kFrequency{"a frequency such as \"2 GHz\"", kHertz, {}};
constexpr UnitKind kSize{"a size such as \"1.25 MB\"", kBytes, kBinaryBytes};
constexpr UnitKind kRatePerCycle{"a rate such as \"64 B/cycle\"", kBytesPerCycle, {}};
constexpr UnitKind kRatePerSecond{"a rate such as \"900 GB/s\"", kBytesPerSecond, {}};
constexpr UnitKind kCycleCount{"a number of cycles such as \"20 cycles\"", kCycles, kOneCycle};
constexpr UnitKind kTime{"a time such as \"100 ns\"", kSeconds, {}};
constexpr UnitKind kPower{"a power such as \"400 W\"", kWatts, {}};
constexpr UnitKind kVoltage{"a voltage such as \"52 V\"", kVolts, {}};
constexpr UnitKind kCurrent{"a current such as \"18 kA\"", kAmperes, {}};
constexpr UnitKind kEnergy{"an energy such as \"0.59 pJ\"", kPicojoules, {}};
constexpr UnitKind kEnergyPerByte{"an energy per byte such as \"8 pJ/B\"", kPicojoulesPerByte, {}};

std::string expected_units(const UnitKind& kind) {
  std::vector<std::string_view> names;
  for (const Unit& unit : kind.print_units) {
    names.push_back(unit.name);
  }
  for (const Unit& unit : kind.other_units) {
    names.push_back(unit.name);
  }
  return fmt::format("{} (unit {})", kind.expected, fmt::join(names, ", "));
}

// Length of the number that a text starts with.
std::size_t number_length(std::string_view text) {
  std::size_t length = 0;
  while (length < text.size()) {
    const char c = text[length];
    const bool is_exponent =
        (c == 'e' || c == 'E') && length + 1 < text.size() &&
        ((text[length + 1] >= '0' && text[length + 1] <= '9') || text[length + 1] == '-');
    const bool is_sign = c == '-' && (length == 0 || text[length - 1] == 'e');
    if (!((c >= '0' && c <= '9') || c == '.' || is_exponent || is_sign)) {
      break;
    }
    ++length;
  }
  return length;
}

Error expected_error(std::string expected) {
  return Error{ErrorKind::InvalidInput, "expected " + std::move(expected)};
}

Result<double> parse_with_unit(std::string_view text, const UnitKind& kind) {
  const std::size_t length = number_length(text);
  const auto number = parse_double(text.substr(0, length));
  std::string_view unit = text.substr(length);
  while (unit.starts_with(' ')) {
    unit.remove_prefix(1);
  }
  if (number.has_value()) {
    for (const std::span<const Unit> units : {kind.print_units, kind.other_units}) {
      for (const Unit& row : units) {
        if (row.name == unit) {
          return *number * row.scale;
        }
      }
    }
  }
  return expected_error(expected_units(kind));
}

// As above, for types that count whole units ("0.5 B" is none).
Result<std::int64_t> parse_whole(std::string_view text, const UnitKind& kind) {
  DOJO_TRY(const double value, parse_with_unit(text, kind));
  const double rounded = std::round(value);
  if (std::abs(value - rounded) > 1e-6 * (1 + std::abs(value)) || std::abs(value) > 9e18) {
    return expected_error(
        fmt::format("{}, a whole number of {}", expected_units(kind), kind.print_units[0].name));
  }
  return static_cast<std::int64_t>(rounded);
}

std::string print_with_unit(double value, const UnitKind& kind) {
  const Unit* unit = &kind.print_units[0];
  for (const Unit& larger : kind.print_units) {
    if (std::abs(value) >= larger.scale) {
      unit = &larger;
    }
  }
  // Dividing by the scale may add an error in the last digit ("2.0160000000000001 TB/s"): the
  // shortest number that reads back to the same value is the one a person wrote.
  for (int digits = 1; digits <= 17; ++digits) {
    const std::string text = fmt::format("{:.{}g}", value / unit->scale, digits);
    const auto number = parse_double(text);
    if (number.has_value() && *number * unit->scale == value) {
      return fmt::format("{} {}", shortest(*number), unit->name);
    }
  }
  return fmt::format("{} {}", shortest(value), kind.print_units[0].name);
}

// A x B (x C), each at least 1.
template <std::size_t N>
std::optional<std::array<int, N>> parse_extents(std::string_view text) {
  std::array<int, N> extents{};
  Cursor cursor(text);
  for (std::size_t i = 0; i < N; ++i) {
    if (i > 0 && !cursor.take("x")) {
      return std::nullopt;
    }
    const auto extent = cursor.take_integer();
    if (!extent.has_value() || *extent < 0 || *extent > std::numeric_limits<int>::max()) {
      return std::nullopt;
    }
    extents[i] = static_cast<int>(*extent);
  }
  if (!cursor.at_end()) {
    return std::nullopt;
  }
  return extents;
}

}  // namespace

// The types that are one number: how to make one from it, and which number to print.
#define DOJO_DEFINE_NUMBER(Type, kind, read, make, count)                                 \
  std::string ValueText<Type>::expected() { return expected_units(kind); }                \
  Result<Type> ValueText<Type>::parse(std::string_view text) {                            \
    DOJO_TRY(const auto number, read(text, kind));                                        \
    return make(number);                                                                  \
  }                                                                                       \
  std::string ValueText<Type>::print(const Type& value) {                                 \
    return print_with_unit(static_cast<double>(value.count()), kind);                     \
  }                                                                                       \
  bool ValueText<Type>::is_within(const Type& value, const Type& low, const Type& high) { \
    return value.count() >= low.count() && value.count() <= high.count();                 \
  }                                                                                       \
  static_assert(true, "")

DOJO_DEFINE_NUMBER(Clock, kFrequency, parse_whole, Clock, hertz);
DOJO_DEFINE_NUMBER(Bytes, kSize, parse_whole, Bytes, count);
DOJO_DEFINE_NUMBER(BytesPerCycle, kRatePerCycle, parse_with_unit, BytesPerCycle, value);
DOJO_DEFINE_NUMBER(BytesPerSecond, kRatePerSecond, parse_with_unit, BytesPerSecond, value);
DOJO_DEFINE_NUMBER(Picoseconds, kTime, parse_whole, Picoseconds, count);
DOJO_DEFINE_NUMBER(Watts, kPower, parse_with_unit, Watts, count);
DOJO_DEFINE_NUMBER(Volts, kVoltage, parse_with_unit, Volts, count);
DOJO_DEFINE_NUMBER(Amperes, kCurrent, parse_with_unit, Amperes, count);
DOJO_DEFINE_NUMBER(Picojoules, kEnergy, parse_with_unit, Picojoules, count);
DOJO_DEFINE_NUMBER(PicojoulesPerByte, kEnergyPerByte, parse_with_unit, PicojoulesPerByte, value);

#undef DOJO_DEFINE_NUMBER

std::string ValueText<Cycles>::expected() { return expected_units(kCycleCount); }
Result<Cycles> ValueText<Cycles>::parse(std::string_view text) {
  DOJO_TRY(const std::int64_t count, parse_whole(text, kCycleCount));
  return Cycles(count);
}
std::string ValueText<Cycles>::print(const Cycles& value) {
  return fmt::format("{} {}", value.count(), value == Cycles{1} ? "cycle" : "cycles");
}
bool ValueText<Cycles>::is_within(const Cycles& value, const Cycles& low, const Cycles& high) {
  return value >= low && value <= high;
}

std::string ValueText<double>::expected() { return "a number such as 0.9, without a unit"; }
Result<double> ValueText<double>::parse(std::string_view text) {
  const auto value = parse_double(text);
  if (!value.has_value()) {
    return expected_error(expected());
  }
  return *value;
}
std::string ValueText<double>::print(const double& value) { return shortest(value); }
bool ValueText<double>::is_within(const double& value, const double& low, const double& high) {
  return value >= low && value <= high;
}

std::string ValueText<int>::expected() { return "a whole number, without a unit"; }
Result<int> ValueText<int>::parse(std::string_view text) {
  const auto value = parse_int(text);
  if (!value.has_value() || std::abs(*value) > std::numeric_limits<int>::max()) {
    return expected_error(expected());
  }
  return static_cast<int>(*value);
}
std::string ValueText<int>::print(const int& value) { return fmt::format("{}", value); }
bool ValueText<int>::is_within(const int& value, const int& low, const int& high) {
  return value >= low && value <= high;
}

std::string ValueText<Shape>::expected() { return "rows x columns such as \"18x20\""; }
Result<Shape> ValueText<Shape>::parse(std::string_view text) {
  const auto extents = parse_extents<2>(text);
  if (!extents.has_value()) {
    return expected_error(expected());
  }
  return Shape{.rows = (*extents)[0], .columns = (*extents)[1]};
}
std::string ValueText<Shape>::print(const Shape& value) {
  return fmt::format("{}x{}", value.rows, value.columns);
}
bool ValueText<Shape>::is_within(const Shape& value, const Shape& low, const Shape& high) {
  return value.rows >= low.rows && value.columns >= low.columns && value.rows <= high.rows &&
         value.columns <= high.columns;
}

std::string ValueText<MatrixShape>::expected() { return "m x n x k such as \"8x8x4\""; }
Result<MatrixShape> ValueText<MatrixShape>::parse(std::string_view text) {
  const auto extents = parse_extents<3>(text);
  if (!extents.has_value()) {
    return expected_error(expected());
  }
  return MatrixShape{.m = (*extents)[0], .n = (*extents)[1], .k = (*extents)[2]};
}
std::string ValueText<MatrixShape>::print(const MatrixShape& value) {
  return fmt::format("{}x{}x{}", value.m, value.n, value.k);
}
bool ValueText<MatrixShape>::is_within(const MatrixShape& value, const MatrixShape& low,
                                       const MatrixShape& high) {
  return value.m >= low.m && value.n >= low.n && value.k >= low.k && value.m <= high.m &&
         value.n <= high.n && value.k <= high.k;
}

namespace {

// A list as a machine file writes it, ["2,3", "4,15"], as the words 2,3 4,15; others as they are.
std::string as_words(std::string_view text) {
  if (!text.starts_with('[') || !text.ends_with(']')) {
    return std::string(text);
  }
  std::string words;
  bool is_quoted = false;
  for (const char c : text.substr(1, text.size() - 2)) {
    is_quoted = is_quoted != (c == '"');
    if (c != '"' && (is_quoted || c != ',')) {
      words += c;
    }
  }
  return words;
}

}  // namespace

std::string ValueText<std::vector<Site>>::expected() {
  return "sites \"row,column\" such as [\"2,3\", \"4,15\"], or [] for none";
}
Result<std::vector<Site>> ValueText<std::vector<Site>>::parse(std::string_view text) {
  std::vector<Site> sites;
  const std::string words = as_words(text);
  Cursor cursor(words);
  constexpr std::int64_t kMax = std::numeric_limits<int>::max();
  for (cursor.skip_spaces(); !cursor.at_end(); cursor.skip_spaces()) {
    const auto row = cursor.take_integer();
    const bool has_comma = cursor.take(",");
    const auto column = has_comma ? cursor.take_integer() : std::nullopt;
    const bool ends = cursor.at_end() || cursor.rest().starts_with(' ');
    if (!row.has_value() || !column.has_value() || !ends || *row < 0 || *column < 0 ||
        *row > kMax || *column > kMax) {
      return expected_error(expected());
    }
    sites.push_back({.row = static_cast<int>(*row), .column = static_cast<int>(*column)});
  }
  return sites;
}
std::string ValueText<std::vector<Site>>::print(const std::vector<Site>& value) {
  std::vector<std::string> words;
  for (const Site site : value) {
    words.push_back(fmt::format("{},{}", site.row, site.column));
  }
  return fmt::format("{}", fmt::join(words, " "));
}
bool ValueText<std::vector<Site>>::is_within(const std::vector<Site>& /*value*/,
                                             const std::vector<Site>& /*low*/,
                                             const std::vector<Site>& /*high*/) {
  return true;  // bounded by the die: check_facts
}

std::string ValueText<std::vector<Side>>::expected() {
  return "sides out of north, east, south, west, such as \"west east\"";
}
Result<std::vector<Side>> ValueText<std::vector<Side>>::parse(std::string_view text) {
  std::vector<Side> sides;
  Cursor cursor(text);
  for (cursor.skip_spaces(); !cursor.at_end(); cursor.skip_spaces()) {
    const auto side = side_named(cursor.take_word());
    if (!side.has_value() || std::find(sides.begin(), sides.end(), *side) != sides.end()) {
      return expected_error(expected());
    }
    sides.push_back(*side);
  }
  if (sides.empty()) {
    return expected_error(expected());
  }
  return sides;
}
std::string ValueText<std::vector<Side>>::print(const std::vector<Side>& value) {
  std::vector<std::string_view> words;
  for (const Side side : value) {
    words.push_back(name(side));
  }
  return fmt::format("{}", fmt::join(words, " "));
}
bool ValueText<std::vector<Side>>::is_within(const std::vector<Side>& /*value*/,
                                             const std::vector<Side>& /*low*/,
                                             const std::vector<Side>& /*high*/) {
  return true;
}

std::string ValueText<RouterAllocator>::expected() { return "islip or round-robin"; }
Result<RouterAllocator> ValueText<RouterAllocator>::parse(std::string_view text) {
  const auto allocator = router_allocator_named(text);
  return allocator.has_value() ? Result<RouterAllocator>(*allocator) : expected_error(expected());
}
std::string ValueText<RouterAllocator>::print(const RouterAllocator& value) {
  return std::string(name(value));
}
bool ValueText<RouterAllocator>::is_within(const RouterAllocator& /*value*/,
                                           const RouterAllocator& /*low*/,
                                           const RouterAllocator& /*high*/) {
  return true;
}

std::string ValueText<Switch>::expected() { return "on or off"; }
Result<Switch> ValueText<Switch>::parse(std::string_view text) {
  if (text != "on" && text != "off") {
    return expected_error(expected());
  }
  return text == "on" ? Switch::On : Switch::Off;
}
std::string ValueText<Switch>::print(const Switch& value) {
  return value == Switch::On ? "on" : "off";
}
bool ValueText<Switch>::is_within(const Switch& /*value*/, const Switch& /*low*/,
                                  const Switch& /*high*/) {
  return true;
}

std::string_view unit_of(std::string_view printed) {
  const std::size_t space = printed.find(' ');
  const bool is_number_and_unit =
      space != std::string_view::npos && number_length(printed) == space;
  return is_number_and_unit ? printed.substr(space + 1) : std::string_view{};
}

}  // namespace dojo::machine::internal
