#include "dojo/machine/internal/toml_reader.h"

#define TOML_EXCEPTIONS 0  // parse() returns its error
#define TOML_ENABLE_FORMATTERS 0
#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <utility>

#include "dojo/base/text.h"
#include "dojo/machine/internal/facts.h"
#include "dojo/machine/internal/shipped_files.h"

namespace dojo::machine::internal {
namespace {

constexpr std::size_t kMaxFileBytes = 1'000'000;
constexpr std::size_t kMaxIncludeDepth = 8;

// Prefix of the display names of shipped files.
constexpr std::string_view kShippedFolder = "machines/";

bool is_section(std::string_view name) {
  return std::any_of(std::begin(kSections), std::end(kSections),
                     [&](const Section& section) { return section.name == name; });
}

// "mesh" of "mesh.die".
bool holds_section(std::string_view name) {
  return std::any_of(std::begin(kSections), std::end(kSections), [&](const Section& section) {
    return section.name.starts_with(fmt::format("{}.", name));
  });
}

// How the file writes a node, for messages; long ones are cut.
std::string written(const toml::node& node) {
  std::string text;
  if (const auto* string = node.as_string()) {
    text = dojo::quoted(string->get());
  } else if (const auto* array = node.as_array()) {
    for (const toml::node& item : *array) {
      text += fmt::format("{}{}", text.empty() ? "" : ", ", written(item));
      if (text.size() > 60) {
        break;
      }
    }
    text = fmt::format("[{}]", text);
  } else if (const auto* integer = node.as_integer()) {
    text = fmt::format("{}", integer->get());
  } else if (const auto* real = node.as_floating_point()) {
    text = fmt::format("{}", real->get());
  } else if (const auto* boolean = node.as_boolean()) {
    text = boolean->get() ? "true" : "false";
  } else if (node.is_table()) {
    text = "a table";
  } else {
    text = "a date or time";
  }
  constexpr std::size_t kLongest = 72;
  return text.size() > kLongest ? text.substr(0, kLongest) + "..." : text;
}

// Reads one file; the errors it makes are placed in that file.
class FileReader {
 public:
  FileReader(std::string file, const std::vector<std::string>& paths, RawDescription& out)
      : file_(std::move(file)), paths_(paths), out_(out) {}

  Result<void> read_section(const std::string& name, const toml::table& table) {
    out_.sections.emplace(name, place(table));
    for (const auto& [key, node] : table) {
      const std::string path = fmt::format("{}.{}", name, key.str());
      const toml::table* inner = node.as_table();
      if (inner != nullptr && (is_section(path) || holds_section(path))) {
        DOJO_TRY_VOID(read_section(path, *inner));
      } else if (std::find(paths_.begin(), paths_.end(), path) == paths_.end()) {
        return unknown_key(path, place(key));
      } else {
        DOJO_TRY_VOID(read_fact(path, node));
      }
    }
    return {};
  }

  // "mesh", which is no section but holds some.
  Result<void> read_group(const std::string& name, const toml::table& table) {
    for (const auto& [key, node] : table) {
      const std::string path = fmt::format("{}.{}", name, key.str());
      if (!is_section(path) || !node.is_table()) {
        return unknown_key(path, place(key));
      }
      DOJO_TRY_VOID(read_section(path, *node.as_table()));
    }
    return {};
  }

  Result<void> read_machine(const toml::table& table) {
    for (const auto& [key, node] : table) {
      const bool is_name = key.str() == "name";
      if (!is_name && key.str() != "title") {
        return error(
            place(key),
            fmt::format("machine.{}: unknown key, [machine] has name and title", key.str()));
      }
      const auto* text = node.as_string();
      if (text == nullptr || text->get().empty() || !is_printable(text->get())) {
        return error(place(node), fmt::format("machine.{}: found {}, expected a text of one line",
                                              key.str(), written(node)));
      }
      if (is_name && !is_plain_name(text->get())) {
        return error(place(node),
                     fmt::format("machine.name: found {}, expected letters, digits, - _ and . only",
                                 written(node)));
      }
      (is_name ? out_.name : out_.title) = text->get();
    }
    return {};
  }

  Error unknown_key(const std::string& path, Location where) const {
    return error(std::move(where),
                 fmt::format("{}: unknown key{}", path, suggestion(path, paths_)));
  }
  Error error(Location where, std::string message) const {
    return Error{ErrorKind::InvalidInput, std::move(message), std::move(where)};
  }
  template <class Node>
  Location place(const Node& node) const {
    return {.file = file_, .line = static_cast<int>(node.source().begin.line), .column = 0};
  }

 private:
  // Names, titles and sources are printed: no control characters.
  static bool is_printable(std::string_view text) {
    return std::none_of(text.begin(), text.end(),
                        [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  }

  static bool is_plain_name(std::string_view name) {
    return name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
             return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '_' || c == '.';
           });
  }

  Result<RawValue> read_value(const std::string& path, std::string_view part,
                              const toml::node& node) const {
    RawValue out{.text = {}, .written = written(node), .is_list = node.is_array()};
    if (const auto* string = node.as_string()) {
      out.text = string->get();
    } else if (const auto* integer = node.as_integer()) {
      out.text = fmt::format("{}", integer->get());
    } else if (const auto* real = node.as_floating_point()) {
      out.text = shortest(real->get());
    } else if (const auto* array = node.as_array();
               array != nullptr &&
               std::all_of(array->begin(), array->end(),
                           [](const toml::node& item) { return item.is_string(); })) {
      for (const toml::node& item : *array) {
        out.text += fmt::format("{}{}", out.text.empty() ? "" : " ", item.as_string()->get());
      }
    } else {
      return error(place(node), fmt::format("{}: {} is {}, expected a text, a number or a list of "
                                            "texts",
                                            path, part, written(node)));
    }
    return out;
  }

  Result<std::vector<RawValue>> read_values(const std::string& path, std::string_view part,
                                            const toml::node& node) const {
    const auto* array = node.as_array();
    if (array == nullptr) {
      return error(place(node),
                   fmt::format("{}: {} is {}, expected a list in [ ]", path, part, written(node)));
    }
    std::vector<RawValue> values;
    for (const toml::node& item : *array) {
      DOJO_TRY(RawValue value, read_value(path, part, item));
      values.push_back(std::move(value));
    }
    return values;
  }

  Result<void> read_part(const std::string& path, std::string_view part, const toml::node& node,
                         RawFact& fact) const {
    if (part == "value") {
      DOJO_TRY(fact.value, read_value(path, part, node));
    } else if (part == "alternatives") {
      DOJO_TRY(fact.alternatives, read_values(path, part, node));
    } else if (part == "range") {
      DOJO_TRY(fact.range, read_values(path, part, node));
      if (fact.range.size() != 2) {
        return error(place(node), fmt::format("{}: range has {} values, expected [low, high]", path,
                                              fact.range.size()));
      }
    } else if (part == "status") {
      const auto* text = node.as_string();
      const auto provenance = text == nullptr ? std::nullopt : provenance_named(text->get());
      if (!provenance.has_value()) {
        return error(place(node), fmt::format("{}: status is {}, expected \"published\", "
                                              "\"inferred\" or \"assumed\"",
                                              path, written(node)));
      }
      fact.provenance = *provenance;
    } else {
      const auto* text = node.as_string();
      if (text == nullptr || text->get().empty() || !is_printable(text->get())) {
        return error(
            place(node),
            fmt::format("{}: source is {}, expected a text of one line: where the value is from",
                        path, written(node)));
      }
      fact.source = text->get();
    }
    return {};
  }

  Result<void> read_fact(const std::string& path, const toml::node& node) {
    const auto* table = node.as_table();
    if (table == nullptr) {
      return error(place(node), fmt::format("{}: found {}, expected {{ value = ..., status = ..., "
                                            "source = ... }}",
                                            path, written(node)));
    }
    static const std::vector<std::string> kParts{"value", "status", "source", "alternatives",
                                                 "range"};
    RawFact fact;
    fact.where = place(node);
    for (const auto& [key, part] : *table) {
      const std::string name(key.str());
      if (std::find(kParts.begin(), kParts.end(), name) == kParts.end()) {
        return error(place(key), fmt::format("{}: unknown part {}, expected {}", path,
                                             dojo::quoted(name), fmt::join(kParts, ", ")));
      }
      DOJO_TRY_VOID(read_part(path, name, part, fact));
    }
    for (const char* part : {"value", "status", "source"}) {
      if (!table->contains(part)) {
        return error(fact.where, fmt::format("{}: missing {}, expected {{ value = ..., status = "
                                             "..., source = ... }}",
                                             path, part));
      }
    }
    out_.facts.insert_or_assign(path, std::move(fact));
    return {};
  }

  std::string file_;
  const std::vector<std::string>& paths_;
  RawDescription& out_;
};

struct IncludedFile {
  std::string name;
  std::string text;
  bool is_shipped = false;
};

// Follows includes; the files that are being read, outermost first, stand in `open`.
class Loader {
 public:
  Loader(const IncludeReader& reader, const std::vector<std::string>& paths, RawDescription& out)
      : reader_(reader), paths_(paths), out_(out) {}

  Result<void> load(std::string_view text, const std::string& file, bool is_shipped) {
    if (text.size() > kMaxFileBytes) {
      return Error{ErrorKind::InvalidInput, fmt::format("{} has {} bytes, expected at most {}",
                                                        file, text.size(), kMaxFileBytes)};
    }
    DOJO_TRY(const toml::table table, parse(text, file));
    open_.push_back(file);
    FileReader reader(file, paths_, out_);
    if (const toml::node* include = table.get("include")) {
      DOJO_TRY_VOID(follow(reader, *include, file, is_shipped));
    }
    // What an included file is called says nothing about this one.
    out_.name.clear();
    out_.title.clear();
    for (const auto& [key, node] : table) {
      const std::string name(key.str());
      if (name == "include") {
        continue;
      }
      if (name != "machine" && !is_section(name) && !holds_section(name)) {
        return unknown_section(reader, name, reader.place(key));
      }
      if (!node.is_table()) {
        return reader.error(reader.place(node), fmt::format("{}: found {}, expected a section [{}]",
                                                            name, written(node), name));
      }
      const toml::table& inner = *node.as_table();
      if (name == "machine") {
        DOJO_TRY_VOID(reader.read_machine(inner));
      } else if (is_section(name)) {
        DOJO_TRY_VOID(reader.read_section(name, inner));
      } else {
        DOJO_TRY_VOID(reader.read_group(name, inner));
      }
    }
    open_.pop_back();
    return {};
  }

 private:
  static Result<toml::table> parse(std::string_view text, const std::string& file) {
    toml::parse_result parsed = toml::parse(text, file);
    if (!parsed) {
      const toml::parse_error& error = parsed.error();
      return Error{ErrorKind::InvalidInput, fmt::format("not TOML: {}", error.description()),
                   Location{.file = file,
                            .line = static_cast<int>(error.source().begin.line),
                            .column = static_cast<int>(error.source().begin.column)}};
    }
    return std::move(parsed).table();
  }

  static Error unknown_section(const FileReader& reader, const std::string& name, Location where) {
    std::vector<std::string> names{"machine", "include"};
    for (const Section& section : kSections) {
      names.emplace_back(section.name);
    }
    return reader.error(std::move(where),
                        fmt::format("{}: unknown section{}", name, suggestion(name, names)));
  }

  Result<void> follow(const FileReader& reader, const toml::node& node, const std::string& file,
                      bool is_shipped) {
    const auto* include = node.as_string();
    if (include == nullptr || include->get().empty()) {
      return reader.error(reader.place(node),
                          fmt::format("include: found {}, expected a file such as \"d1.toml\" or a "
                                      "shipped machine such as \"d1\"",
                                      written(node)));
    }
    auto included = read_included(include->get(), file, is_shipped);
    if (!included.has_value()) {
      return reader.error(reader.place(node),
                          fmt::format("include: {}", included.error().to_string()));
    }
    if (std::find(open_.begin(), open_.end(), included->name) != open_.end()) {
      return reader.error(reader.place(node),
                          fmt::format("include: comes back to the file itself: {} -> {}",
                                      fmt::join(open_, " -> "), included->name));
    }
    if (open_.size() >= kMaxIncludeDepth) {
      return reader.error(reader.place(node),
                          fmt::format("include: more than {} files deep", kMaxIncludeDepth));
    }
    return load(included->text, included->name, included->is_shipped);
  }

  Result<IncludedFile> read_included(const std::string& include, const std::string& file,
                                     bool is_shipped) {
    const bool is_path = include.find('/') != std::string::npos || include.ends_with(".toml");
    if (is_shipped || !is_path) {
      const std::string name = include.ends_with(".toml") ? include : include + ".toml";
      DOJO_TRY(std::string text, read_shipped(name));
      return IncludedFile{
          .name = std::string(kShippedFolder) + name, .text = std::move(text), .is_shipped = true};
    }
    namespace fs = std::filesystem;
    const std::string path = (fs::path(file).parent_path() / include).lexically_normal().string();
    DOJO_TRY(std::string text, reader_(path));
    return IncludedFile{.name = path, .text = std::move(text), .is_shipped = false};
  }

  const IncludeReader& reader_;
  const std::vector<std::string>& paths_;
  RawDescription& out_;
  std::vector<std::string> open_;
};

}  // namespace

Result<std::string> read_shipped(const std::string& file_name) {
  std::vector<std::string> names;
  for (const ShippedFile& file : shipped_files()) {
    if (file.name == file_name) {
      return std::string(file.text);
    }
    names.emplace_back(file.name.substr(0, file.name.size() - std::string_view(".toml").size()));
  }
  const std::string name = file_name.substr(0, file_name.find(".toml"));
  return Error{ErrorKind::NotFound,
               fmt::format("unknown machine {}{}", dojo::quoted(name), suggestion(name, names))};
}

Result<RawDescription> read_raw(std::string_view toml, const std::string& file,
                                const IncludeReader& reader,
                                const std::vector<std::string>& paths) {
  RawDescription out;
  DOJO_TRY_VOID(Loader(reader, paths, out).load(toml, file, /*is_shipped=*/!reader));
  for (const auto& [text, key] : {std::pair(&out.name, "name"), std::pair(&out.title, "title")}) {
    if (text->empty()) {
      return Error{ErrorKind::InvalidInput,
                   fmt::format("missing machine.{}, expected a section [machine] with name and "
                               "title",
                               key),
                   Location{.file = file, .line = 1, .column = 0}};
    }
  }
  return out;
}

}  // namespace dojo::machine::internal
