// How commands print: aligned tables, numbers with unit prefixes, JSON to a file or to stdout.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace dojo::tools {

enum class Align { Left, Right };

// Rows of equal length with a heading; print() aligns the columns by their widest cell.
class Table {
 public:
  struct Column {
    std::string heading;
    Align align = Align::Left;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add_row(std::vector<std::string> cells);
  void print() const;  // to stdout

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// "362.5 TFLOPS" for (362.5e12, "FLOPS"): at most four digits, prefixes up to exa; "-" for 0.
std::string with_prefix(double value, std::string_view unit);

// "104.215 us", or milliseconds from one on.
std::string as_time(double seconds);

// "1,062,000".
std::string with_commas(std::int64_t value);

// "1 host", "4 hosts".
std::string counted(std::int64_t count, std::string_view noun);

// Indented, a line feed at the end. `path` "-" is stdout. Throws ApiError if it cannot be written.
void write_json(const nlohmann::ordered_json& json, const std::string& path);

}  // namespace dojo::tools
