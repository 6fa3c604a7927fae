#include "dojo/machine/pattern.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "dojo/base/text.h"
#include "dojo/machine/internal/cursor.h"

namespace dojo::machine {
namespace {

using internal::Cursor;

// Which fields a kind has, besides itself. The text form, its parser and the check follow.
struct KindInfo {
  PatternKind kind;
  std::string_view name;
  bool axis = false;
  bool order = false;
  bool bytes = false;
  bool source = false;
  bool distance = false;
  bool halo = false;
  bool edge = false;
  bool move = false;
};

constexpr std::array kKinds{
    KindInfo{.kind = PatternKind::Multicast,
             .name = "multicast",
             .axis = true,
             .bytes = true,
             .source = true},
    KindInfo{.kind = PatternKind::AllGather, .name = "all_gather", .axis = true, .bytes = true},
    KindInfo{
        .kind = PatternKind::Reduce, .name = "reduce", .axis = true, .order = true, .bytes = true},
    KindInfo{.kind = PatternKind::ReduceScatter,
             .name = "reduce_scatter",
             .axis = true,
             .order = true,
             .bytes = true},
    KindInfo{.kind = PatternKind::AllReduce,
             .name = "all_reduce",
             .axis = true,
             .order = true,
             .bytes = true},
    KindInfo{.kind = PatternKind::Halo, .name = "halo", .halo = true},
    KindInfo{
        .kind = PatternKind::Shift, .name = "shift", .axis = true, .bytes = true, .distance = true},
    KindInfo{.kind = PatternKind::AllToAll, .name = "all_to_all", .axis = true, .bytes = true},
    KindInfo{
        .kind = PatternKind::GatherToEdge, .name = "gather_to_edge", .bytes = true, .edge = true},
    KindInfo{.kind = PatternKind::ScatterFromEdge,
             .name = "scatter_from_edge",
             .bytes = true,
             .edge = true},
    KindInfo{.kind = PatternKind::RegionMove, .name = "region_move", .bytes = true, .move = true},
};
static_assert(kKinds.size() == kPatternKindCount);

constexpr std::array<std::string_view, 3> kAxisNames{"rows", "columns", "both"};
constexpr std::array<std::string_view, 4> kOrderNames{"none", "chain", "nested", "centre"};

const KindInfo& info(PatternKind kind) { return kKinds[static_cast<std::size_t>(kind)]; }

template <class Enum, std::size_t N>
std::optional<Enum> named(const std::array<std::string_view, N>& names, std::string_view name) {
  for (std::size_t i = 0; i < N; ++i) {
    if (names[i] == name) {
      return static_cast<Enum>(i);
    }
  }
  return std::nullopt;
}

Error invalid(std::string_view text, std::string_view why) {
  return Error{ErrorKind::InvalidInput, fmt::format("pattern {}: {}", quoted(text), why)};
}

// The fields "key=number" that a kind has, in the order of the text form.
struct NumberField {
  std::string_view key;
  std::int64_t value = 0;
  bool is_required = true;
};

std::vector<NumberField> number_fields(const KindInfo& kind, const Pattern& pattern) {
  std::vector<NumberField> fields;
  if (kind.source) {
    fields.push_back({"source", pattern.source, false});
  }
  if (kind.distance) {
    fields.push_back({"distance", pattern.distance});
  }
  if (kind.move) {
    fields.push_back({"rows", pattern.move_rows});
    fields.push_back({"columns", pattern.move_columns});
  }
  if (kind.halo) {
    fields.push_back({"north", pattern.halo.north.count()});
    fields.push_back({"east", pattern.halo.east.count()});
    fields.push_back({"south", pattern.halo.south.count()});
    fields.push_back({"west", pattern.halo.west.count()});
  }
  if (kind.bytes) {
    fields.push_back({"bytes", pattern.bytes.count()});
  }
  return fields;
}

// False if the number does not fit its field.
bool set_number_field(Pattern& pattern, std::string_view key, std::int64_t value) {
  const bool fits_int =
      value >= -std::numeric_limits<int>::max() && value <= std::numeric_limits<int>::max();
  if (key == "bytes") {
    pattern.bytes = Bytes(value);
  } else if (key == "north") {
    pattern.halo.north = Bytes(value);
  } else if (key == "east") {
    pattern.halo.east = Bytes(value);
  } else if (key == "south") {
    pattern.halo.south = Bytes(value);
  } else if (key == "west") {
    pattern.halo.west = Bytes(value);
  } else if (!fits_int) {
    return false;
  } else if (key == "source") {
    pattern.source = static_cast<int>(value);
  } else if (key == "distance") {
    pattern.distance = static_cast<int>(value);
  } else if (key == "rows") {
    pattern.move_rows = static_cast<int>(value);
  } else if (key == "columns") {
    pattern.move_columns = static_cast<int>(value);
  }
  return true;
}

// The word for the axis (or edge) that follows the kind.
Result<void> parse_direction(Cursor& cursor, const KindInfo& kind, std::string_view text,
                             Pattern& pattern) {
  if (kind.axis) {
    cursor.skip_spaces();
    const auto axis = axis_named(cursor.take_word());
    if (!axis.has_value()) {
      return invalid(text, fmt::format("expected rows, columns or both after {}", kind.name));
    }
    pattern.axis = *axis;
  }
  if (kind.edge) {
    cursor.skip_spaces();
    const auto side = side_named(cursor.take_word());
    if (!side.has_value()) {
      return invalid(text, fmt::format("expected north, east, south or west after {}", kind.name));
    }
    pattern.edge = *side;
  }
  return {};
}

Result<void> parse_order(Cursor& cursor, std::string_view text, Pattern& pattern) {
  const std::string_view word = cursor.take_word();
  const auto order = association_named(word);
  if (!order.has_value() || *order == Association::None) {
    return invalid(text,
                   fmt::format("unknown order {}, expected chain, nested or centre", quoted(word)));
  }
  pattern.order = *order;
  return {};
}

std::string expected_keys(const KindInfo& kind) {
  std::vector<std::string_view> keys;
  if (kind.order) {
    keys.emplace_back("order");
  }
  for (const NumberField& field : number_fields(kind, Pattern{})) {
    keys.push_back(field.key);
  }
  return fmt::format("{}", fmt::join(keys, ", "));
}

// "key=value ..." until the end; each key of the kind once.
Result<void> parse_fields(Cursor& cursor, const KindInfo& kind, std::string_view text,
                          Pattern& pattern) {
  std::vector<std::string_view> seen;
  const std::vector<NumberField> fields = number_fields(kind, pattern);
  for (cursor.skip_spaces(); !cursor.at_end(); cursor.skip_spaces()) {
    const std::string_view key = cursor.take_word();
    const bool is_number =
        std::any_of(fields.begin(), fields.end(), [&](const auto& f) { return f.key == key; });
    if ((!is_number && !(kind.order && key == "order")) || !cursor.take("=")) {
      return invalid(text, fmt::format("at {}: expected KEY=VALUE, keys of {}: {}",
                                       quoted(key.empty() ? cursor.rest() : key), kind.name,
                                       expected_keys(kind)));
    }
    if (std::find(seen.begin(), seen.end(), key) != seen.end()) {
      return invalid(text, fmt::format("{} is given twice", key));
    }
    seen.push_back(key);
    if (key == "order") {
      DOJO_TRY_VOID(parse_order(cursor, text, pattern));
      continue;
    }
    const auto value = cursor.take_integer();
    if (!value.has_value() || !set_number_field(pattern, key, *value)) {
      return invalid(text, fmt::format("{}: expected an integer that fits", key));
    }
  }
  for (const NumberField& field : fields) {
    if (field.is_required && std::find(seen.begin(), seen.end(), field.key) == seen.end()) {
      return invalid(text, fmt::format("missing {}=", field.key));
    }
  }
  return {};
}

Pattern made(Pattern pattern) {
  DOJO_CHECK(check_pattern(pattern).has_value());
  return pattern;
}

}  // namespace

Pattern multicast(Axis axis, Bytes bytes, int source) {
  return made({.kind = PatternKind::Multicast, .axis = axis, .bytes = bytes, .source = source});
}
Pattern all_gather(Axis axis, Bytes bytes) {
  return made({.kind = PatternKind::AllGather, .axis = axis, .bytes = bytes});
}
Pattern reduce(Axis axis, Association order, Bytes bytes) {
  return made({.kind = PatternKind::Reduce, .axis = axis, .order = order, .bytes = bytes});
}
Pattern reduce_scatter(Axis axis, Association order, Bytes bytes) {
  return made({.kind = PatternKind::ReduceScatter, .axis = axis, .order = order, .bytes = bytes});
}
Pattern all_reduce(Axis axis, Association order, Bytes bytes) {
  return made({.kind = PatternKind::AllReduce, .axis = axis, .order = order, .bytes = bytes});
}
Pattern halo(HaloBytes sides) { return made({.kind = PatternKind::Halo, .halo = sides}); }
Pattern shift(Axis axis, int distance, Bytes bytes_per_node) {
  return made(
      {.kind = PatternKind::Shift, .axis = axis, .bytes = bytes_per_node, .distance = distance});
}
Pattern all_to_all(Axis axis, Bytes bytes_per_pair) {
  return made({.kind = PatternKind::AllToAll, .axis = axis, .bytes = bytes_per_pair});
}
Pattern gather_to_edge(Side edge, Bytes bytes_per_node) {
  return made({.kind = PatternKind::GatherToEdge, .bytes = bytes_per_node, .edge = edge});
}
Pattern scatter_from_edge(Side edge, Bytes bytes_per_node) {
  return made({.kind = PatternKind::ScatterFromEdge, .bytes = bytes_per_node, .edge = edge});
}
Pattern region_move(int rows, int columns, Bytes bytes_per_node) {
  return made({.kind = PatternKind::RegionMove,
               .bytes = bytes_per_node,
               .move_rows = rows,
               .move_columns = columns});
}

std::string_view name(PatternKind kind) { return info(kind).name; }
std::string_view name(Axis axis) { return kAxisNames[static_cast<std::size_t>(axis)]; }
std::string_view name(Association order) { return kOrderNames[static_cast<std::size_t>(order)]; }

std::optional<PatternKind> pattern_kind_named(std::string_view name) {
  for (const KindInfo& kind : kKinds) {
    if (kind.name == name) {
      return kind.kind;
    }
  }
  return std::nullopt;
}
std::optional<Axis> axis_named(std::string_view name) { return named<Axis>(kAxisNames, name); }
std::optional<Association> association_named(std::string_view name) {
  return named<Association>(kOrderNames, name);
}

Result<void> check_pattern(const Pattern& pattern) {
  const KindInfo& kind = info(pattern.kind);
  const auto fail = [&](std::string_view why) {
    return Error{ErrorKind::InvalidInput, fmt::format("pattern {}: {}", kind.name, why)};
  };
  if (std::min({pattern.bytes, pattern.halo.north, pattern.halo.east, pattern.halo.south,
                pattern.halo.west}) < Bytes{}) {
    return fail("sizes must not be negative");
  }
  if ((pattern.order != Association::None) != kind.order) {
    return fail(kind.order ? "it adds partials, so it needs order=chain, nested or centre"
                           : "it adds nothing, so it has no order");
  }
  if (kind.distance && (pattern.distance == 0 || pattern.axis == Axis::Both)) {
    return fail("expected a distance other than 0 along rows or columns");
  }
  if (pattern.source < 0) {
    return fail("source is an index in the line, so not negative");
  }
  // What is left must be at its default: a field set in vain is a mistake of the caller.
  Pattern rest = pattern;
  rest.kind = PatternKind::AllGather;
  rest.order = Association::None;
  const Pattern defaults;
  rest.axis = kind.axis ? defaults.axis : rest.axis;
  rest.bytes = kind.bytes ? defaults.bytes : rest.bytes;
  rest.source = kind.source ? defaults.source : rest.source;
  rest.distance = kind.distance ? defaults.distance : rest.distance;
  rest.halo = kind.halo ? defaults.halo : rest.halo;
  rest.edge = kind.edge ? defaults.edge : rest.edge;
  rest.move_rows = kind.move ? defaults.move_rows : rest.move_rows;
  rest.move_columns = kind.move ? defaults.move_columns : rest.move_columns;
  if (rest != defaults) {
    return fail("a field is set that this kind does not have");
  }
  return {};
}

std::string to_string(const Pattern& pattern) {
  const KindInfo& kind = info(pattern.kind);
  std::string text(kind.name);
  if (kind.axis) {
    text += fmt::format(" {}", name(pattern.axis));
  }
  if (kind.edge) {
    text += fmt::format(" {}", name(pattern.edge));
  }
  if (kind.order) {
    text += fmt::format(" order={}", name(pattern.order));
  }
  for (const NumberField& field : number_fields(kind, pattern)) {
    if (field.is_required || field.value != 0) {
      text += fmt::format(" {}={}", field.key, field.value);
    }
  }
  return text;
}

Result<Pattern> parse_pattern(std::string_view text) {
  Cursor cursor(text);
  const std::string_view word = cursor.take_word();
  const auto kind = pattern_kind_named(word);
  if (!kind.has_value()) {
    std::vector<std::string> names;
    for (const KindInfo& row : kKinds) {
      names.emplace_back(row.name);
    }
    return invalid(text,
                   fmt::format("unknown pattern {}{}", quoted(word), suggestion(word, names)));
  }
  Pattern pattern{.kind = *kind};
  DOJO_TRY_VOID(parse_direction(cursor, info(*kind), text, pattern));
  DOJO_TRY_VOID(parse_fields(cursor, info(*kind), text, pattern));
  DOJO_TRY_VOID(check_pattern(pattern));
  return pattern;
}

}  // namespace dojo::machine
