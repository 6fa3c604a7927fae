#include "dojo/mesh/trace.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "dojo/base/text.h"
#include "dojo/mesh/internal/check_messages.h"

namespace dojo::mesh {

namespace {

constexpr std::string_view kHeader = "dojo-trace 1";
constexpr std::string_view kSideLetters = "nesw";  // in the order of machine::kSides

bool is_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           c == '.' || c == '-';
  });
}

// The whole text as an integer, without an error's cost.
std::optional<std::int64_t> integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size() || text.empty()) {
    return std::nullopt;
  }
  return value;
}

// Text before and after the first `mark`; the whole text and nothing without one.
std::pair<std::string_view, std::optional<std::string_view>> cut(std::string_view text, char mark) {
  const std::size_t at = text.find(mark);
  if (at == std::string_view::npos) {
    return {text, std::nullopt};
  }
  return {text.substr(0, at), text.substr(at + 1)};
}

std::optional<machine::Side> side_of(char letter) {
  const std::size_t at = kSideLetters.find(letter);
  return at == std::string_view::npos ? std::nullopt : std::optional(machine::kSides[at]);
}

// A WAIT whose message may stand further down.
struct Wait {
  std::string_view name;
  std::optional<std::pair<std::int64_t, std::int64_t>> first_and_stride;
  std::int64_t delay = 0;
  std::uint32_t message = 0;  // that waits
};

class Parser {
 public:
  Parser(std::string_view text, const std::string& file, const Topology& topology)
      : text_(text), file_(file), topology_(topology) {}

  Result<MessageTrace> parse();

 private:
  // Of a part of the text.
  Location location(std::string_view part) const {
    const std::string_view before =
        text_.substr(0, static_cast<std::size_t>(part.begin() - text_.begin()));
    const std::size_t line_start = before.rfind('\n');
    const std::size_t column =
        line_start == std::string_view::npos ? before.size() : before.size() - line_start - 1;
    return {.file = file_,
            .line = static_cast<int>(std::count(before.begin(), before.end(), '\n')) + 1,
            .column = static_cast<int>(column) + 1};
  }
  Error error(std::string_view at, std::string message) const {
    return {ErrorKind::InvalidInput, std::move(message), location(at)};
  }
  // The next word of the line, up to a blank; empty at its end.
  static std::string_view take_word(std::string_view& line);
  Result<void> parse_line(std::string_view line);
  Result<void> parse_field(std::string_view field, Message& message, std::uint32_t& seen);
  Result<std::int64_t> number(std::string_view text, std::string_view what, std::int64_t low,
                              std::int64_t high) const;
  Result<FlitRate> pace(std::string_view text) const;
  Result<RouterId> node(std::string_view text) const;
  Result<void> parse_targets(std::string_view text, Message& message);
  Result<void> parse_waits(std::string_view text);
  Result<Wait> parse_wait(std::string_view text) const;
  Result<void> resolve_waits();

  std::string_view text_;
  const std::string& file_;
  const Topology& topology_;
  MessageTrace trace_{};
  std::unordered_map<std::string_view, std::uint32_t> ids_{};
  std::vector<std::string_view> names_{};
  std::vector<Wait> waits_{};
  std::int32_t phase_ = 0;
};

std::string_view Parser::take_word(std::string_view& line) {
  constexpr std::string_view blanks = " \t\r";
  line.remove_prefix(std::min(line.find_first_not_of(blanks), line.size()));
  const std::string_view word = line.substr(0, line.find_first_of(blanks));
  line.remove_prefix(word.size());
  return word;
}

Result<std::int64_t> Parser::number(std::string_view text, std::string_view what, std::int64_t low,
                                    std::int64_t high) const {
  const auto value = integer(text);
  if (!value.has_value() || *value < low || *value > high) {
    return error(text, fmt::format("{} {}, expected a whole number in {}..{}", what, quoted(text),
                                   low, high));
  }
  return *value;
}

Result<FlitRate> Parser::pace(std::string_view text) const {
  const auto [num, den] = cut(text, '/');
  if (!den.has_value()) {
    return error(text, fmt::format("pace {}, expected NUM/DEN", quoted(text)));
  }
  DOJO_TRY(const std::int64_t below,
           number(*den, "pace's denominator", 1, TraceLimits::kPaceDenominator));
  DOJO_TRY(const std::int64_t above, number(num, "pace's numerator", 1, below));
  return FlitRate{static_cast<std::int32_t>(above), static_cast<std::int32_t>(below)};
}

Result<RouterId> Parser::node(std::string_view text) const {
  auto found = parse_node(text, topology_);
  if (!found.has_value()) {
    return error(text, found.error().message);
  }
  return found;
}

Result<void> Parser::parse_targets(std::string_view text, Message& message) {
  auto [first, rest] = cut(text, '+');
  DOJO_TRY(message.target, node(first));
  message.first_more = static_cast<std::uint32_t>(trace_.more_targets.size());
  while (rest.has_value()) {
    const auto [one, more] = cut(*rest, '+');
    DOJO_TRY(const RouterId target, node(one));
    if (trace_.more_targets.size() >= TraceLimits::kTargets) {
      return error(one, fmt::format("more than {} further targets", TraceLimits::kTargets));
    }
    trace_.more_targets.push_back(target);
    ++message.more;
    rest = more;
  }
  return {};
}

Result<Wait> Parser::parse_wait(std::string_view text) const {
  Wait wait;
  const auto [what, delay] = cut(text, '+');
  if (delay.has_value()) {
    DOJO_TRY(wait.delay, number(*delay, "delay", 0, TraceLimits::kCycles));
  }
  const auto [name, counts] = cut(what, ':');
  wait.name = name;
  if (!is_name(name)) {
    return error(text, fmt::format("{}, expected NAME[:FIRST:STRIDE][+DELAY]", quoted(text)));
  }
  if (counts.has_value()) {
    const auto [first, stride] = cut(*counts, ':');
    if (!stride.has_value()) {
      return error(text, fmt::format("{}, expected NAME[:FIRST:STRIDE][+DELAY]", quoted(text)));
    }
    DOJO_TRY(const std::int64_t offset,
             number(first, "first", -TraceLimits::kFlits, TraceLimits::kFlits));
    DOJO_TRY(const std::int64_t step, number(*stride, "stride", 0, TraceLimits::kStride));
    wait.first_and_stride = {offset, step};
  }
  return wait;
}

Result<void> Parser::parse_waits(std::string_view text) {
  std::optional<std::string_view> rest = text;
  while (rest.has_value()) {
    const auto [one, more] = cut(*rest, ',');
    DOJO_TRY(Wait wait, parse_wait(one));
    wait.message = static_cast<std::uint32_t>(trace_.messages.size());
    waits_.push_back(wait);
    if (waits_.size() > TraceLimits::kDependencies) {
      return error(one, fmt::format("more than {} dependencies", TraceLimits::kDependencies));
    }
    rest = more;
  }
  return {};
}

Result<void> Parser::parse_field(std::string_view field, Message& message, std::uint32_t& seen) {
  using L = TraceLimits;
  static const std::vector<std::string> kKeys{"flits", "packet", "start", "pace", "after"};
  const auto [key, value] = cut(field, '=');
  const auto found = std::find(kKeys.begin(), kKeys.end(), key);
  if (found == kKeys.end() || !value.has_value()) {
    return error(field, fmt::format("{}, expected flits=, packet=, start=, pace= or after={}",
                                    quoted(field), suggestion(key, kKeys)));
  }
  const std::uint32_t bit = 1U << (found - kKeys.begin());
  if ((seen & bit) != 0) {
    return error(field, fmt::format("{} is given twice", key));
  }
  seen |= bit;
  if (key == "flits") {
    DOJO_TRY(message.flits, number(*value, key, 1, L::kFlits));
  } else if (key == "packet") {
    DOJO_TRY(const std::int64_t flits, number(*value, key, 1, L::kPacketFlits));
    message.packet_flits = static_cast<std::int32_t>(flits);
  } else if (key == "start") {
    DOJO_TRY(const std::int64_t cycle, number(*value, key, 0, L::kCycles));
    message.start = Cycles{cycle};
  } else if (key == "pace") {
    DOJO_TRY(message.pace, pace(*value));
  } else {
    return parse_waits(*value);
  }
  return {};
}

Result<void> Parser::parse_line(std::string_view line) {
  const std::string_view name = take_word(line);
  if (name == "barrier") {
    const std::string_view more = take_word(line);
    if (!more.empty()) {
      return error(more, fmt::format("{} behind barrier", quoted(more)));
    }
    ++phase_;
    return {};
  }
  if (!is_name(name)) {
    return error(name, fmt::format("{} is no name; letters, digits, _ . - are", quoted(name)));
  }
  if (!ids_.emplace(name, static_cast<std::uint32_t>(trace_.messages.size())).second) {
    return error(name, fmt::format("two messages have the name {}", name));
  }
  Message message{.phase = phase_};
  DOJO_TRY(message.source, node(take_word(line)));
  const std::string_view arrow = take_word(line);
  if (arrow != "->") {
    return error(arrow, fmt::format("{}, expected ->", quoted(arrow)));
  }
  DOJO_TRY_VOID(parse_targets(take_word(line), message));
  std::uint32_t seen = 0;
  std::string_view field = take_word(line);
  while (!field.empty()) {
    DOJO_TRY_VOID(parse_field(field, message, seen));
    field = take_word(line);
  }
  if (message.flits == 0) {
    return error(line, "a message needs flits=");
  }
  if (trace_.messages.size() >= TraceLimits::kMessages) {
    return error(name, fmt::format("more than {} messages", TraceLimits::kMessages));
  }
  names_.push_back(name);
  trace_.messages.push_back(message);
  return {};
}

Result<void> Parser::resolve_waits() {
  trace_.dependencies.reserve(waits_.size());
  for (const Wait& wait : waits_) {
    const auto found = ids_.find(wait.name);
    if (found == ids_.end()) {
      return Error{ErrorKind::InvalidInput, fmt::format("no message is named {}", wait.name),
                   location(wait.name)};
    }
    const MessageId on{found->second};
    Dependency after = whole(trace_, on, Cycles{wait.delay});
    if (wait.first_and_stride.has_value()) {
      std::tie(after.first, after.stride) = *wait.first_and_stride;
    }
    ++trace_.messages[wait.message].dependencies;
    trace_.dependencies.push_back(after);
  }
  std::uint32_t next = 0;  // waits stand in the order of their messages
  for (Message& message : trace_.messages) {
    message.first_dependency = next;
    next += message.dependencies;
  }
  return {};
}

Result<MessageTrace> Parser::parse() {
  bool has_header = false;
  std::string_view rest = text_;
  while (!rest.empty()) {
    const std::string_view whole_line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(whole_line.size() + 1, rest.size()));
    std::string_view line = whole_line.substr(0, whole_line.find('#'));
    if (!has_header) {
      line = line.substr(0, line.find_last_not_of(" \t\r") + 1);
      if (line != kHeader) {
        return error(whole_line, fmt::format("found {}, expected {} in the first line",
                                             quoted(whole_line.substr(0, 40)), kHeader));
      }
      has_header = true;
    } else if (line.find_first_not_of(" \t\r") != std::string_view::npos) {
      DOJO_TRY_VOID(parse_line(line));
    }
  }
  if (!has_header) {
    return error(text_, fmt::format("an empty file, expected {} in the first line", kHeader));
  }
  DOJO_TRY_VOID(resolve_waits());
  DOJO_TRY_VOID(
      internal::check_messages(trace_, topology_,
                               {.name = [&](MessageId id) { return std::string(names_[id.index]); },
                                .where = [&](MessageId id) -> std::optional<Location> {
                                  return location(names_[id.index]);
                                }}));
  return std::move(trace_);
}

}  // namespace

std::string node_name(const Topology& topology, RouterId router) {
  const Site site = topology.site_of(router);
  if (const auto port = topology.edge_port_of(router)) {
    const machine::Side side = topology.spec().edge_ports[*port].side;
    return fmt::format("{},{}{}", site.row, site.column,
                       kSideLetters[static_cast<std::size_t>(side)]);
  }
  const int plane = topology.plane_of(router);
  return plane == 0 ? fmt::format("{},{}", site.row, site.column)
                    : fmt::format("{},{}/{}", site.row, site.column, plane);
}

Result<RouterId> parse_node(std::string_view text, const Topology& topology) {
  const auto fail = [&](std::string_view why) {
    return Error{ErrorKind::InvalidInput, fmt::format("node {}: {}", quoted(text), why)};
  };
  const auto [place, plane_text] = cut(text, '/');
  const auto [row_text, behind] = cut(place, ',');
  std::string_view column_text = behind.value_or("");
  const auto side = column_text.empty() ? std::nullopt : side_of(column_text.back());
  if (side.has_value()) {
    column_text.remove_suffix(1);
  }
  const auto row = integer(row_text);
  const auto column = integer(column_text);
  const auto plane = plane_text.has_value() ? integer(*plane_text) : std::optional<std::int64_t>(0);
  if (!row.has_value() || !column.has_value() || !plane.has_value()) {
    return fail("expected ROW,COLUMN, ROW,COLUMN/PLANE or ROW,COLUMN and n, e, s or w");
  }
  const Shape grid = topology.grid();
  if (*row < 0 || *row >= grid.rows || *column < 0 || *column >= grid.columns || *plane < 0 ||
      *plane >= topology.planes()) {
    return fail(fmt::format("outside of the network of {}x{}{}", grid.rows, grid.columns,
                            topology.planes() > 1 ? " in 2 planes" : ""));
  }
  const Site site{static_cast<int>(*row), static_cast<int>(*column)};
  if (!side.has_value()) {
    return topology.router_at(site, static_cast<int>(*plane));
  }
  const auto& ports = topology.spec().edge_ports;
  const auto port = std::find_if(ports.begin(), ports.end(), [&](const EdgePort& each) {
    return each.site == site && each.side == *side;
  });
  if (port == ports.end()) {
    return fail(fmt::format("no port is on the {} side", machine::name(*side)));
  }
  return topology.edge_port(static_cast<std::size_t>(port - ports.begin()));
}

Result<MessageTrace> parse_trace(std::string_view text, const std::string& file,
                                 const Topology& topology) {
  return Parser(text, file, topology).parse();
}

Result<MessageTrace> load_trace(const std::string& path, const Topology& topology) {
  DOJO_TRY(const std::string text, read_file(path));
  return parse_trace(text, path, topology);
}

std::string to_string(const MessageTrace& trace, const Topology& topology) {
  std::string text(kHeader);
  text += '\n';
  std::int32_t phase = 0;
  auto out = std::back_inserter(text);
  for (std::uint32_t i = 0; i < trace.messages.size(); ++i) {
    const Message& message = trace.messages[i];
    for (; phase < message.phase; ++phase) {
      text += "barrier\n";
    }
    fmt::format_to(out, "m{} {} -> {}", i, node_name(topology, message.source),
                   node_name(topology, message.target));
    for (const RouterId target : trace.more_targets_of({i})) {
      fmt::format_to(out, "+{}", node_name(topology, target));
    }
    fmt::format_to(out, " flits={}", message.flits);
    if (message.packet_flits != 1) {
      fmt::format_to(out, " packet={}", message.packet_flits);
    }
    if (message.start.count() != 0) {
      fmt::format_to(out, " start={}", message.start.count());
    }
    if (message.pace != FlitRate{}) {
      fmt::format_to(out, " pace={}/{}", message.pace.num, message.pace.den);
    }
    std::string_view separator = " after=";
    for (const Dependency& after : trace.dependencies_of({i})) {
      fmt::format_to(out, "{}m{}", separator, after.on.index);
      if (after.stride != 0 || after.first != trace.messages[after.on.index].packets()) {
        fmt::format_to(out, ":{}:{}", after.first, after.stride);
      }
      if (after.delay.count() != 0) {
        fmt::format_to(out, "+{}", after.delay.count());
      }
      separator = ",";
    }
    text += '\n';
  }
  return text;
}

}  // namespace dojo::mesh
