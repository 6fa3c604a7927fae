// For tests: a table of comma-separated values with a header line.
#pragma once

#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace dojo {

using CsvRow = std::map<std::string, std::string>;

inline std::vector<CsvRow> read_csv(const std::string& name) {
  std::ifstream file(std::string(DOJO_SOURCE_DIR) + "/tests/data/mesh/" + name);
  const auto cells = [](const std::string& line) {
    std::vector<std::string> found;
    std::istringstream text(line);
    for (std::string cell; std::getline(text, cell, ',');) {
      found.push_back(cell);
    }
    return found;
  };
  std::string line;
  std::getline(file, line);
  const std::vector<std::string> keys = cells(line);
  std::vector<CsvRow> rows;
  while (std::getline(file, line)) {
    const std::vector<std::string> values = cells(line);
    CsvRow row;
    for (std::size_t i = 0; i < std::min(keys.size(), values.size()); ++i) {
      row[keys[i]] = values[i];
    }
    rows.push_back(row);
  }
  return rows;
}

}  // namespace dojo
