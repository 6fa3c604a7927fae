#include "dojo/tools/output.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "dojo/base/check.h"
#include "dojo/base/text.h"
#include "dojo/tools/api_error.h"

namespace dojo::tools {
namespace {

// Characters of a UTF-8 text.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u;
  }));
}

}  // namespace

void Table::add_row(std::vector<std::string> cells) {
  DOJO_CHECK(cells.size() == columns_.size());
  rows_.push_back(std::move(cells));
}

void Table::print() const {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    std::size_t widest = width(columns_[i].heading);
    for (const auto& row : rows_) {
      widest = std::max(widest, width(row[i]));
    }
    widths.push_back(widest);
  }
  const auto print_row = [&](const auto& cell_of) {
    std::string line;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const std::string& cell = cell_of(i);
      const std::string padding(widths[i] - width(cell), ' ');
      line += i > 0 ? "  " : "";
      line += columns_[i].align == Align::Right ? padding + cell : cell + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print("{}\n", line);
  };
  print_row([&](std::size_t i) -> const std::string& { return columns_[i].heading; });
  for (const auto& row : rows_) {
    print_row([&](std::size_t i) -> const std::string& { return row[i]; });
  }
}

std::string with_prefix(double value, std::string_view unit) {
  if (value == 0) {
    return "-";
  }
  constexpr std::array<std::string_view, 7> kPrefixes{"", "K", "M", "G", "T", "P", "E"};
  std::size_t prefix = 0;
  while (prefix + 1 < kPrefixes.size() && std::abs(value) >= 999.95) {
    value /= 1000;
    ++prefix;
  }
  // KB as everywhere in this project, but kW.
  const bool is_kilo = prefix == 1 && !unit.starts_with('B');
  return fmt::format("{:.4g} {}{}", value, is_kilo ? "k" : kPrefixes[prefix], unit);
}

std::string as_time(double seconds) {
  return seconds < 1e-3 ? fmt::format("{:.3f} us", seconds * 1e6)
                        : fmt::format("{:.3f} ms", seconds * 1e3);
}

std::string with_commas(std::int64_t value) {
  std::string digits = fmt::format("{}", value);
  const std::size_t first = value < 0 ? 1 : 0;
  for (std::size_t at = digits.size(); at > first + 3;) {
    at -= 3;
    digits.insert(at, 1, ',');
  }
  return digits;
}

std::string counted(std::int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", with_commas(count), noun, count == 1 ? "" : "s");
}

void write_json(const nlohmann::ordered_json& json, const std::string& path) {
  const std::string text = json.dump(2) + "\n";
  if (path == "-") {
    fmt::print("{}", text);
  } else {
    value_of(write_file_atomically(path, text));
  }
}

}  // namespace dojo::tools
