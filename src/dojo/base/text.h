// Small helpers for messages and parsers.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/result.h"

namespace dojo {

// The text in double quotes, control characters and quotes escaped as in JSON.
std::string quoted(std::string_view text);

// The candidates closest to `name` by edit distance (at most `limit`), best first: for
// "unknown X, did you mean Y".
std::vector<std::string> nearest_names(std::string_view name,
                                       std::span<const std::string> candidates,
                                       std::size_t limit = 3);

// " (nearest: a, b)" or "" if nothing is near; to end an "unknown ..." message with.
std::string suggestion(std::string_view name, std::span<const std::string> candidates);

// The whole text as a decimal integer.
Result<std::int64_t> parse_int(std::string_view text);

// The whole text as a finite double, "." as decimal point in any locale.
Result<double> parse_double(std::string_view text);

// Shortest text that reads back as the same double.
std::string shortest(double value);

// The whole file; Error with the operating system's reason and the path.
Result<std::string> read_file(const std::string& path);

// Writes beside the target, flushes to disk, then renames: the target is old or new, never torn.
Result<void> write_file_atomically(const std::string& path, std::string_view content);

// Lower-case hexadecimal SHA-256 of the bytes.
std::string sha256_hex(std::string_view bytes);

}  // namespace dojo
