#include "dojo/run/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "dojo/base/check.h"
#include "dojo/base/text.h"

namespace dojo::run {
namespace {

using Json = nlohmann::json;

// The reference implementation refuses longer headers too.
constexpr std::uint64_t kHeaderLimit = 100'000'000;
constexpr std::size_t kRankLimit = 16;
constexpr int kDepthLimit = 8;  // of the header: tensors by name, fields, lists

struct DtypeRow {
  SafetensorsDtype dtype;
  std::string_view name;
  std::int64_t bytes;
};
constexpr std::array kDtypes{
    DtypeRow{SafetensorsDtype::F32, "F32", 4}, DtypeRow{SafetensorsDtype::Bf16, "BF16", 2},
    DtypeRow{SafetensorsDtype::U8, "U8", 1},   DtypeRow{SafetensorsDtype::I32, "I32", 4},
    DtypeRow{SafetensorsDtype::I64, "I64", 8}, DtypeRow{SafetensorsDtype::Bool, "BOOL", 1},
};

Error damaged(std::string what) {
  return Error{ErrorKind::InvalidInput, "safetensors: " + std::move(what)};
}

std::optional<SafetensorsDtype> dtype_named(std::string_view name) {
  for (const DtypeRow& row : kDtypes) {
    if (row.name == name) {
      return row.dtype;
    }
  }
  return std::nullopt;
}

std::optional<std::uint64_t> as_size(const Json& value) {
  if (value.is_number_unsigned()) {
    return value.get<std::uint64_t>();
  }
  return std::nullopt;
}

// product(shape) * bytes of an element, or nothing if it does not fit 63 bits.
std::optional<std::uint64_t> size_of(const std::vector<std::int64_t>& shape,
                                     SafetensorsDtype dtype) {
  constexpr std::uint64_t kLimit = std::numeric_limits<std::int64_t>::max();
  std::uint64_t size = static_cast<std::uint64_t>(bytes_of(dtype));
  for (const std::int64_t extent : shape) {
    const auto factor = static_cast<std::uint64_t>(extent);
    if (factor != 0 && size > kLimit / factor) {
      return std::nullopt;
    }
    size *= factor;
  }
  return size;
}

struct Placed {
  std::string name;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

Result<std::pair<SafetensorsEntry, Placed>> parse_entry(const std::string& name, const Json& json,
                                                        std::uint64_t data_bytes) {
  const std::string where = "tensor " + dojo::quoted(name) + ": ";
  if (!json.is_object() || !json.contains("dtype") || !json.contains("shape") ||
      !json.contains("data_offsets")) {
    return damaged(where + "expected an object with dtype, shape and data_offsets");
  }
  SafetensorsEntry entry;
  const Json& dtype = json["dtype"];
  const std::optional<SafetensorsDtype> known =
      dtype.is_string() ? dtype_named(dtype.get<std::string>()) : std::nullopt;
  if (!known) {
    return damaged(where + "dtype " + dtype.dump() +
                   " is not one of F32, BF16, U8, I32, I64, BOOL");
  }
  entry.dtype = *known;
  const Json& shape = json["shape"];
  if (!shape.is_array() || shape.size() > kRankLimit) {
    return damaged(where + fmt::format("shape must be a list of at most {} extents", kRankLimit));
  }
  for (const Json& extent : shape) {
    const std::optional<std::uint64_t> size = as_size(extent);
    if (!size || *size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return damaged(where + "extent " + extent.dump() + " is not a size");
    }
    entry.shape.push_back(static_cast<std::int64_t>(*size));
  }
  const Json& offsets = json["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !as_size(offsets[0]) || !as_size(offsets[1])) {
    return damaged(where + "data_offsets must be two offsets");
  }
  Placed placed{name, *as_size(offsets[0]), *as_size(offsets[1])};
  const std::optional<std::uint64_t> size = size_of(entry.shape, entry.dtype);
  if (placed.begin > placed.end || placed.end > data_bytes) {
    return damaged(where + fmt::format("bytes {}..{} are not inside the {} bytes of data (is the "
                                       "file cut short?)",
                                       placed.begin, placed.end, data_bytes));
  }
  if (!size || placed.end - placed.begin != *size) {
    return damaged(where + "its shape and dtype do not make up the bytes it is given");
  }
  return std::pair{std::move(entry), std::move(placed)};
}

// No hole and no overlap: the tensors, in order of offset, cover the data exactly.
Result<void> check_cover(std::vector<Placed> placed, std::uint64_t data_bytes) {
  std::sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  std::uint64_t covered = 0;
  for (const Placed& one : placed) {
    if (one.begin != covered) {
      return damaged("tensor " + dojo::quoted(one.name) +
                     fmt::format(": begins at byte {}, where the one before it ends at {}",
                                 one.begin, covered));
    }
    covered = one.end;
  }
  if (covered != data_bytes) {
    return damaged(
        fmt::format("{} bytes follow the last tensor (damaged file)", data_bytes - covered));
  }
  return {};
}

Result<void> parse_metadata(const Json& json, std::map<std::string, std::string>& metadata) {
  if (!json.is_object()) {
    return damaged("__metadata__ must be an object of strings");
  }
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) {
      return damaged("__metadata__ " + dojo::quoted(key) + " must be a string");
    }
    metadata[key] = value.get<std::string>();
  }
  return {};
}

// The JSON object of the header. Nesting is capped before anything deep is built, and a name that
// stands twice is an error (a JSON library would take the last).
Result<Json> parse_header(std::string_view text) {
  bool is_deep = false;
  std::optional<std::string> twice;
  std::vector<std::string> seen;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    is_deep = is_deep || depth > kDepthLimit;
    if (event == Json::parse_event_t::key && depth == 1) {
      seen.push_back(parsed.get<std::string>());
    }
    return depth <= kDepthLimit;
  };
  Json header = Json::parse(text, watch, /*allow_exceptions=*/false);
  std::sort(seen.begin(), seen.end());
  if (const auto it = std::adjacent_find(seen.begin(), seen.end()); it != seen.end()) {
    twice = *it;
  }
  if (header.is_discarded() || is_deep || !header.is_object()) {
    return damaged("the header is not a JSON object of tensors (damaged file)");
  }
  if (twice) {
    return damaged("tensor " + dojo::quoted(*twice) + " stands twice in the header");
  }
  return header;
}

}  // namespace

std::string_view name_of(SafetensorsDtype dtype) {
  return kDtypes[static_cast<std::size_t>(dtype)].name;
}

std::int64_t bytes_of(SafetensorsDtype dtype) {
  return kDtypes[static_cast<std::size_t>(dtype)].bytes;
}

Result<Safetensors> parse_safetensors(std::string_view content) {
  if (content.size() < 8) {
    return damaged(
        fmt::format("{} bytes are too few for a header (is the file cut short?)", content.size()));
  }
  std::uint64_t length = 0;
  for (int i = 7; i >= 0; --i) {
    length = length << 8 | static_cast<unsigned char>(content[static_cast<std::size_t>(i)]);
  }
  if (length > kHeaderLimit || length > content.size() - 8) {
    return damaged(fmt::format(
        "the header claims {} bytes, the file has {} (cut short, or not a safetensors file)",
        length, content.size()));
  }
  DOJO_TRY(const Json header, parse_header(content.substr(8, length)));
  const std::string_view data = content.substr(8 + length);
  Safetensors result;
  std::vector<Placed> all;
  for (const auto& [name, json] : header.items()) {
    if (name == "__metadata__") {
      DOJO_TRY_VOID(parse_metadata(json, result.metadata));
      continue;
    }
    DOJO_TRY(auto parsed, parse_entry(name, json, data.size()));
    auto& [entry, placed] = parsed;
    const auto* begin = reinterpret_cast<const std::byte*>(data.data()) + placed.begin;
    entry.bytes.assign(begin, begin + (placed.end - placed.begin));
    all.push_back(std::move(placed));
    result.entries.emplace(name, std::move(entry));
  }
  DOJO_TRY_VOID(check_cover(std::move(all), data.size()));
  return result;
}

std::string print_safetensors(const Safetensors& tensors) {
  Json header = Json::object();  // sorted by key
  if (!tensors.metadata.empty()) {
    header["__metadata__"] = tensors.metadata;
  }
  std::uint64_t offset = 0;
  for (const auto& [name, entry] : tensors.entries) {
    DOJO_CHECK(size_of(entry.shape, entry.dtype) == entry.bytes.size());
    const std::uint64_t end = offset + entry.bytes.size();
    header[name] = {
        {"dtype", name_of(entry.dtype)}, {"shape", entry.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');  // tensors begin at a multiple of 8
  std::string content(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) {
    content[i] = static_cast<char>(static_cast<std::uint64_t>(text.size()) >> (8 * i));
  }
  content += text;
  content.reserve(content.size() + offset);
  for (const auto& [name, entry] : tensors.entries) {
    content.append(reinterpret_cast<const char*>(entry.bytes.data()), entry.bytes.size());
  }
  return content;
}

Result<Safetensors> read_safetensors(const std::string& path) {
  DOJO_TRY(const std::string content, read_file(path));
  Result<Safetensors> parsed = parse_safetensors(content);
  if (!parsed) {
    return Error{parsed.error().kind, path + ": " + parsed.error().message};
  }
  return parsed;
}

Result<void> write_safetensors(const std::string& path, const Safetensors& tensors) {
  return write_file_atomically(path, print_safetensors(tensors));
}

}  // namespace dojo::run
